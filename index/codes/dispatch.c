// Which kernels this CPU runs: the choice of index/kernels/dispatch.c, and the same names. All sets give equal bits.
#include "index/codes/codes_internal.h"

#if defined(__x86_64__)
const rag_codes_kernels *rag_codes_kernels_named(const char *name) {
  bool scalar = __builtin_cpu_supports("fma") && __builtin_cpu_supports("popcnt");
  bool avx2 = scalar && __builtin_cpu_supports("avx2");
  bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni") &&
                __builtin_cpu_supports("avx512vpopcntdq");
  if (strcmp(name, "avx512") == 0) return avx512 ? &rag_codes__kernels_avx512 : NULL;
  if (strcmp(name, "avx2") == 0) return avx2 ? &rag_codes__kernels_avx2 : NULL;
  if (strcmp(name, "scalar") == 0) return scalar ? &rag_codes__kernels_scalar_fma : &rag_codes__kernels_scalar_libm;
  if (strcmp(name, "scalar_libm") == 0) return &rag_codes__kernels_scalar_libm;
  return NULL;
}
#else
const rag_codes_kernels *rag_codes_kernels_named(const char *name) {
  bool known = strcmp(name, "scalar") == 0 || strcmp(name, "scalar_libm") == 0;
  return known ? &rag_codes__kernels_scalar_libm : NULL;
}
#endif

const rag_codes_kernels *rag_codes_kernels_best(void) {
  // atomic, relaxed: it points at constant data, and two first callers choose the same.
  static _Atomic(const rag_codes_kernels *) chosen;
  const rag_codes_kernels *kernels = atomic_load_explicit(&chosen, memory_order_relaxed);
  if (kernels) return kernels;
  static const char *const best_first[] = {"avx512", "avx2", "scalar"};
  const char *wanted = rag_kernels_best()->name;
  size_t i = 0;
  while (i + 1 < RAG_COUNT_OF(best_first) && strcmp(best_first[i], wanted) != 0) i++;
  do kernels = rag_codes_kernels_named(best_first[i++]);
  while (!kernels); // "scalar" is never NULL
  atomic_store_explicit(&chosen, kernels, memory_order_relaxed);
  return kernels;
}
