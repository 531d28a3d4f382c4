// Goal: a reader never sees an object that is gone, and every object is destroyed exactly once, when the last owner
// lets go and not before. Method: (1) the interleavings that the counts exist for, made exact in one thread by holding
// an announcement in the cell's word by hand; (2) readers against swappers under load: objects carry a canary that
// their destruction overwrites before it frees them, so a use after free shows without a sanitizer, and with one it is
// named.
#include "base/base.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define CANARY UINT64_C(0x5AFE5AFE5AFE5AFE)
#define ONE_IN_FLIGHT (UINT64_C(1) << 48) // the word's layout, as base.h gives it

typedef struct object {
  rag_ref ref;
  uint64_t canary; // plain memory on purpose: its reads are what a race detector watches
  uint64_t number;
} object;

static _Atomic int64_t alive;

static void destroy_object(rag_ref *self) {
  object *o = (object *)(void *)self;
  if (o->canary != CANARY) abort(); // destroyed twice
  o->canary = 0;
  atomic_fetch_sub(&alive, 1);
  rag_free(o);
}

static object *object_create(uint64_t number) {
  object *o = rag_alloc(sizeof(*o));
  if (!o) abort();
  rag_ref_init(&o->ref, destroy_object);
  o->canary = CANARY;
  o->number = number;
  atomic_fetch_add(&alive, 1);
  return o;
}

static void references_count(void **state) {
  RAG_UNUSED(state);
  object *o = object_create(1);
  assert_ptr_equal(rag_ref_take(o), o);
  rag_ref_drop(o);
  assert_int_equal(atomic_load(&alive), 1);
  rag_ref_drop(o);
  assert_int_equal(atomic_load(&alive), 0);
  assert_null(rag_ref_take(NULL));
  rag_ref_drop(NULL);
}

static void a_cell_owns_what_it_holds(void **state) {
  RAG_UNUSED(state);
  rag_cell cell;
  rag_cell_init(&cell, object_create(1));
  object *one = rag_cell_get(&cell);
  assert_int_equal(one->number, 1);
  rag_cell_set(&cell, object_create(2));
  assert_int_equal(atomic_load(&alive), 2); // ours still lives
  assert_int_equal(one->number, 1);
  rag_ref_drop(one);
  assert_int_equal(atomic_load(&alive), 1);
  rag_cell_set(&cell, rag_cell_get(&cell)); // the same object again
  assert_int_equal(atomic_load(&alive), 1);
  rag_cell_set(&cell, NULL);
  assert_int_equal(atomic_load(&alive), 0);
  assert_null(rag_cell_get(&cell));
  rag_cell_set(&cell, object_create(3));
  rag_cell_set(&cell, NULL);
  assert_int_equal(atomic_load(&alive), 0);
  rag_cell_init(&cell, NULL);
  assert_null(rag_cell_get(&cell));
  assert_true(atomic_load(&cell.word) == 0); // nothing stays in flight
}

// A reader stopped after its announcement, while the writer swaps: it must find the object alive, and finish by
// dropping the reference that the writer made of its announcement.
static void an_announcement_keeps_the_object(void **state) {
  RAG_UNUSED(state);
  for (uint64_t readers = 1; readers <= 3; readers++) {
    rag_cell cell;
    object *o = object_create(1);
    rag_cell_init(&cell, o);
    atomic_fetch_add(&cell.word, readers * ONE_IN_FLIGHT);
    rag_cell_set(&cell, NULL);
    for (uint64_t i = 0; i < readers; i++) {
      assert_int_equal(atomic_load(&alive), 1);
      assert_true(o->canary == CANARY);
      rag_ref_drop(o);
    }
    assert_int_equal(atomic_load(&alive), 0);
  }
}

// The writer stopped between swap and count, while the reader finishes and drops its own reference, too. With a hold of
// 1 the count would reach 0 here and the object would die under the writer.
static void a_reader_cannot_free_under_the_writer(void **state) {
  RAG_UNUSED(state);
  rag_cell cell;
  object *o = object_create(1);
  rag_cell_init(&cell, o);
  for (int readers = 0; readers < 3; readers++) {
    atomic_fetch_add(&cell.word, ONE_IN_FLIGHT); // reader: announces
    rag_ref_take(o);                             // reader: takes its reference
  }
  uint64_t taken = atomic_exchange(&cell.word, 0); // writer: swaps, and is stopped
  for (int readers = 0; readers < 3; readers++) {
    rag_ref_drop(o); // reader: gives back the announcement that the writer took along
    rag_ref_drop(o); // reader: is done with the object
    assert_int_equal(atomic_load(&alive), 1);
    assert_true(o->canary == CANARY);
  }
  atomic_store(&cell.word, taken); // writer: goes on
  rag_cell_set(&cell, NULL);
  assert_int_equal(atomic_load(&alive), 0);
}

// The object leaves the cell and comes back (A, B, A) while two readers are stopped: one from before, one from after.
static void an_object_may_come_back(void **state) {
  RAG_UNUSED(state);
  rag_cell cell;
  object *o = object_create(1);
  rag_cell_init(&cell, o);
  atomic_fetch_add(&cell.word, ONE_IN_FLIGHT); // first reader announces
  rag_ref_take(o);                             // and takes
  rag_cell_set(&cell, object_create(2));
  rag_cell_set(&cell, rag_ref_take(o));
  atomic_fetch_add(&cell.word, ONE_IN_FLIGHT); // second reader announces
  rag_ref_take(o);                             // and takes
  atomic_fetch_sub(&cell.word, ONE_IN_FLIGHT); // the first one finds its pointer, and gives back the second's
  rag_ref_drop(o);                             // the second finds none in flight, and drops instead
  rag_cell_set(&cell, NULL);
  assert_int_equal(atomic_load(&alive), 1);
  rag_ref_drop(o);
  assert_int_equal(atomic_load(&alive), 1);
  rag_ref_drop(o);
  assert_int_equal(atomic_load(&alive), 0);
}

#if defined(__SANITIZE_THREAD__)
#define SWAPS 20000
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SWAPS 20000
#endif
#endif
#ifndef SWAPS
#define SWAPS 200000
#endif
#define READERS 4
#define SWAPPERS 2

typedef struct battle {
  rag_cell cell;
  rag_cell reused; // swaps between two objects that stay alive, and NULL: the A, B, A case under load
  object *pair[2];
  _Atomic bool stop;
  _Atomic int64_t reads;
} battle;

static void *read_for_ever(void *arg) {
  battle *b = arg;
  int64_t reads = 0;
  uint64_t sum = 0;
  while (!atomic_load_explicit(&b->stop, memory_order_relaxed)) {
    object *o = rag_cell_get(&b->cell);
    if (o->canary != CANARY) abort();
    sum += o->number;
    object *more = rag_ref_take(o);
    rag_ref_drop(o);
    if (more->canary != CANARY) abort();
    rag_ref_drop(more);
    object *p = rag_cell_get(&b->reused);
    if (p && p->canary != CANARY) abort();
    rag_ref_drop(p);
    reads++;
  }
  atomic_fetch_add(&b->reads, reads + (sum == 1)); // sum: so that the reads of plain memory are not optimised away
  return NULL;
}

static void *swap_many(void *arg) {
  battle *b = arg;
  for (uint64_t i = 0; i < SWAPS; i++) {
    rag_cell_set(&b->cell, object_create(i));
    rag_cell_set(&b->reused, i % 3 == 2 ? NULL : rag_ref_take(b->pair[i % 3]));
  }
  return NULL;
}

static void readers_against_swappers(void **state) {
  RAG_UNUSED(state);
  battle b = {0};
  pthread_t readers[READERS], swappers[SWAPPERS];
  rag_cell_init(&b.cell, object_create(0));
  rag_cell_init(&b.reused, NULL);
  for (size_t i = 0; i < 2; i++) b.pair[i] = object_create(i);
  for (size_t i = 0; i < READERS; i++) assert_int_equal(pthread_create(&readers[i], NULL, read_for_ever, &b), 0);
  for (size_t i = 0; i < SWAPPERS; i++) assert_int_equal(pthread_create(&swappers[i], NULL, swap_many, &b), 0);
  for (size_t i = 0; i < SWAPPERS; i++) pthread_join(swappers[i], NULL);
  atomic_store(&b.stop, true);
  for (size_t i = 0; i < READERS; i++) pthread_join(readers[i], NULL);
  assert_true(atomic_load(&b.reads) > 0);
  assert_int_equal(atomic_load(&b.cell.word) >> 48, 0); // all announcements were given back
  assert_int_equal(atomic_load(&alive), 3);             // no object was leaked
  rag_cell_set(&b.cell, NULL);
  rag_cell_set(&b.reused, NULL);
  assert_int_equal(atomic_load(&alive), 2);
  for (size_t i = 0; i < 2; i++) {
    assert_int_equal(atomic_load(&b.pair[i]->ref.count), 1); // exact after all that traffic
    rag_ref_drop(b.pair[i]);
  }
  assert_int_equal(atomic_load(&alive), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(references_count),
      cmocka_unit_test(a_cell_owns_what_it_holds),
      cmocka_unit_test(an_announcement_keeps_the_object),
      cmocka_unit_test(a_reader_cannot_free_under_the_writer),
      cmocka_unit_test(an_object_may_come_back),
      cmocka_unit_test(readers_against_swappers),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
