// The one door to the heap, and the planned failure behind it.
//
// Threads: the plan is thread-local, so that a test that fails its own allocations leaves other threads alone, and so
// that production pays one load of a thread-local that is zero and a branch that is never taken; an atomic shared by
// all threads would put a contended line under every malloc.
//
// Left to others: limits. An arena has a limit of its own; a process has its cgroup.
#include "base/base.h"

#include <stdlib.h>

// Allocations of this thread left until the planned failure; 0: none is planned.
static _Thread_local uint64_t fail_countdown;
static _Thread_local bool fail_happened;

static __attribute__((noinline, cold)) bool count_down_to_failure(void) {
  if (--fail_countdown > 0) return false;
  fail_happened = true;
  return true;
}

static inline bool planned_failure(void) {
  return __builtin_expect(fail_countdown != 0, 0) && count_down_to_failure();
}

void rag_alloc_fail_after(uint64_t n) {
  fail_countdown = n;
  fail_happened = false;
}

bool rag_alloc_has_failed(void) {
  return fail_happened;
}

bool rag_mul_overflows(size_t a, size_t b, size_t *out) {
  return __builtin_mul_overflow(a, b, out);
}

// malloc(0) may give NULL, which callers would read as "out of memory": a size of 0 is served as 1.
void *rag_alloc(size_t size) {
  if (planned_failure()) return NULL;
  return malloc(size ? size : 1);
}

void *rag_calloc(size_t count, size_t size) {
  size_t bytes;
  if (planned_failure() || rag_mul_overflows(count, size, &bytes)) return NULL;
  return calloc(1, bytes ? bytes : 1);
}

void *rag_realloc(void *p, size_t size) {
  if (planned_failure()) return NULL;
  return realloc(p, size ? size : 1);
}

void *rag_realloc_array(void *p, size_t count, size_t size) {
  size_t bytes;
  if (rag_mul_overflows(count, size, &bytes)) return NULL;
  return rag_realloc(p, bytes);
}

void *rag_aligned_alloc(size_t alignment, size_t size) {
  if (planned_failure()) return NULL;
  // posix_memalign wants a power of two that is a multiple of the pointer size; unlike aligned_alloc it takes any size.
  void *p = NULL;
  if (alignment < sizeof(void *)) alignment = sizeof(void *);
  if (posix_memalign(&p, alignment, size ? size : 1) != 0) return NULL;
  return p;
}

void rag_free(void *p) {
  free(p);
}

char *rag_strdup(const char *s) {
  return rag_strndup(s, strlen(s));
}

char *rag_strndup(const char *s, size_t size) {
  if (size == SIZE_MAX) return NULL;
  char *copy = rag_alloc(size + 1);
  if (!copy) return NULL;
  if (size) memcpy(copy, s, size);
  copy[size] = '\0';
  return copy;
}
