// Which kernels this CPU runs. Chosen once per process; all sets give equal bits (kernels/scalar.c), so the choice is
// one of speed alone, and RAGD_KERNELS=name is for measuring and for reproducing a fault.
#include "index/index_internal.h"

#include <stdlib.h>

#if defined(__x86_64__)
const rag_kernels *rag_kernels_named(const char *name) {
  bool fma = __builtin_cpu_supports("fma"), avx2 = fma && __builtin_cpu_supports("avx2");
  bool avx512 = avx2 && __builtin_cpu_supports("avx512f");
  if (strcmp(name, "avx512") == 0) return avx512 ? &rag_index__kernels_avx512 : NULL;
  if (strcmp(name, "avx2") == 0) return avx2 ? &rag_index__kernels_avx2 : NULL;
  if (strcmp(name, "scalar") == 0) return fma ? &rag_index__kernels_scalar_fma : &rag_index__kernels_scalar_libm;
  if (strcmp(name, "scalar_libm") == 0) return &rag_index__kernels_scalar_libm;
  return NULL;
}
#else
const rag_kernels *rag_kernels_named(const char *name) {
  bool known = strcmp(name, "scalar") == 0 || strcmp(name, "scalar_libm") == 0;
  return known ? &rag_index__kernels_scalar_libm : NULL;
}
#endif

static const rag_kernels *choose(void) {
  const char *wanted = getenv("RAGD_KERNELS");
  if (wanted && *wanted) {
    const rag_kernels *named = rag_kernels_named(wanted);
    if (named) return named;
    rag_log(RAG_LOG_WARN, "index.kernels", "wanted=%s problem=%s", wanted, "unknown, or not for this CPU");
  }
  static const char *const best_first[] = {"avx512", "avx2"};
  for (size_t i = 0; i < RAG_COUNT_OF(best_first); i++) {
    const rag_kernels *found = rag_kernels_named(best_first[i]);
    if (found) return found;
  }
  return rag_kernels_named("scalar");
}

const rag_kernels *rag_kernels_best(void) {
  // atomic, relaxed: it points at constant data, and two first callers choose the same.
  static _Atomic(const rag_kernels *) chosen;
  const rag_kernels *kernels = atomic_load_explicit(&chosen, memory_order_relaxed);
  if (!kernels) {
    kernels = choose();
    atomic_store_explicit(&chosen, kernels, memory_order_relaxed);
  }
  return kernels;
}
