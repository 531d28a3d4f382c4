// Reference-counted objects, and the cell through which readers reach the current one while writers swap it.
//
// The problem. A reader loads a pointer and then adds 1 to the count *in* the object; between the two a writer may swap
// the pointer and free the object. So the reader's first step must announce itself in the same atomic word that it
// reads the pointer from: a split reference count. The cell's word is 48 bits of pointer and 16 bits of references in
// flight.
//
// A reader (rag_cell_get)
//   1. word += 1 in flight. The old value gives the pointer. From here on the object cannot go away.
//   2. object's count += 1: the reference that the caller gets.
//   3. gives the one in flight back. While the word still has this pointer and something in flight: word -= 1 in flight
//      (compare-and-swap). Otherwise a writer has taken it along (below): object's count -= 1.
// A writer (rag_cell_set)
//   1. new object's count += HOLD - 1: the caller's reference becomes the cell's.
//   2. swaps the word; the new one has none in flight. The old one gives pointer p and n in flight.
//   3. p's count += n - HOLD: the n readers' announcements become plain references, the cell's hold ends.
//
// Why a cell holds HOLD = 65,536 references and not 1. Between 2 and 3 of the writer, a reader that announced itself
// before the swap finds the pointer changed and subtracts 1 that the writer has not added yet. With a hold of 1 that
// reader could then drop its own reference, reach 0 and free the object under the writer's step 3. With HOLD:
//
//   count = references owned + readers between their steps 2 and 3, or 1 and 3
//           + sum of (HOLD - n) over the cells that point here and the swaps between 2 and 3
//
// holds at every moment. As n < HOLD, each term of the sum is at least 1: the count is over 0 while anything at all
// knows the object, and the step that makes it 0 is the last one. The sum is also why references are fungible: when an
// object leaves a cell and comes back to it (A, B, A), a reader of the first stay may give back an announcement of the
// second; that one's reader then finds none in flight and subtracts from the count instead. The total is the same.
//
// Memory orders
//   word, reader step 1: acquire, with the writer's release in step 2: the reader sees the object as the writer made
//   it,
//     and the HOLD in its count. Other readers' additions to the word do not break this: a release sequence goes on
//     through read-modify-writes.
//   word, reader step 3: release, with the writer's acquire in step 2: a writer that does not find the reader in flight
//     any more has the reader's += 1 before its own += n - HOLD, so that cannot be the step to 0.
//   count up: relaxed. Whoever adds holds a reference or an announcement already, so nothing can be freed by racing.
//   count down: acq_rel. release: what this owner did with the object comes before; acquire: the last one, which
//     destroys, comes after what all the others did.
//
// Why 16 bits are enough. In flight are readers between steps 1 and 3, so at most one per thread of the process.
// Wrapping needs 65,536 threads stopped inside a window of a few instructions. At IN_FLIGHT_MAX, half of that, the
// reader that sees it aborts the process: running out must be a crash with a name and not a count that lost 65,536
// references.
//
// Pointers of user space fit 47 bits on x86-64 and 48 on AArch64, unless a program asks mmap for more (5-level paging)
// or tags them: asserted when an object enters a cell.
//
// What waiting there is: readers never wait for a writer. Step 3 repeats only when the word changed meanwhile, which
// means that some other thread got on.
#include "base/base.h"

#define POINTER_BITS 48
#define POINTER_MASK ((UINT64_C(1) << POINTER_BITS) - 1)
#define ONE_IN_FLIGHT (UINT64_C(1) << POINTER_BITS)
#define HOLD (INT64_C(1) << (64 - POINTER_BITS))
#define IN_FLIGHT_MAX (HOLD / 2)

void rag_ref_init(rag_ref *ref, void (*destroy)(rag_ref *self)) {
  atomic_init(&ref->count, 1);
  ref->destroy = destroy;
}

void *rag_ref_take(void *ref) {
  if (!ref) return NULL;
  int64_t before = atomic_fetch_add_explicit(&((rag_ref *)ref)->count, 1, memory_order_relaxed);
  RAG_ASSERT(before > 0); // taken from somebody who does not own one
  return ref;
}

static void add_and_maybe_destroy(rag_ref *ref, int64_t change) {
  int64_t before = atomic_fetch_add_explicit(&ref->count, change, memory_order_acq_rel);
  RAG_ASSERT(before + change >= 0);
  if (before + change == 0) ref->destroy(ref);
}

void rag_ref_drop(void *ref) {
  if (ref) add_and_maybe_destroy(ref, -1);
}

static rag_ref *pointer_of(uint64_t word) {
  return (rag_ref *)(uintptr_t)(word & POINTER_MASK);
}

static int64_t in_flight_of(uint64_t word) {
  return (int64_t)(word >> POINTER_BITS);
}

// The word of a cell that holds `ref`, whose owner hands over one reference.
static uint64_t hold(rag_ref *ref) {
  if (!ref) return 0;
  RAG_ASSERT(((uintptr_t)ref & ~(uintptr_t)POINTER_MASK) == 0);
  int64_t before = atomic_fetch_add_explicit(&ref->count, HOLD - 1, memory_order_relaxed);
  RAG_ASSERT(before > 0);
  return (uint64_t)(uintptr_t)ref;
}

void rag_cell_init(rag_cell *cell, void *ref) {
  atomic_init(&cell->word, hold(ref));
}

void *rag_cell_get(rag_cell *cell) {
  uint64_t word = atomic_fetch_add_explicit(&cell->word, ONE_IN_FLIGHT, memory_order_acquire);
  RAG_ASSERT(in_flight_of(word) < IN_FLIGHT_MAX);
  rag_ref *ref = pointer_of(word);
  if (ref) atomic_fetch_add_explicit(&ref->count, 1, memory_order_relaxed);

  word += ONE_IN_FLIGHT; // what the word holds if nobody else came by
  while (pointer_of(word) == ref && in_flight_of(word) > 0) {
    if (atomic_compare_exchange_weak_explicit(&cell->word, &word, word - ONE_IN_FLIGHT, memory_order_release,
                                              memory_order_relaxed))
      return ref;
  }
  rag_ref_drop(ref); // a writer made the announcement a reference; for NULL there is nothing to count
  return ref;
}

void rag_cell_set(rag_cell *cell, void *ref) {
  uint64_t word = atomic_exchange_explicit(&cell->word, hold(ref), memory_order_acq_rel);
  rag_ref *old = pointer_of(word);
  if (old) add_and_maybe_destroy(old, in_flight_of(word) - HOLD);
}
