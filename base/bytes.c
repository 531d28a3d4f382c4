// Small operations on runs of bytes: order, equality in constant time, hexadecimal.
//
// Threads: pure functions.
#include "base/base.h"

int rag_slice_compare(rag_slice a, rag_slice b) {
  size_t common = RAG_MIN(a.size, b.size);
  int order = common ? memcmp(a.data, b.data, common) : 0;
  if (order != 0) return order;
  return (a.size > b.size) - (a.size < b.size);
}

bool rag_equal_constant_time(const void *a, const void *b, size_t size) {
  // volatile: without it a compiler may see that only "any difference?" is asked and leave early.
  const volatile unsigned char *left = a;
  const volatile unsigned char *right = b;
  unsigned char difference = 0;
  for (size_t i = 0; i < size; i++) difference = (unsigned char)(difference | (left[i] ^ right[i]));
  return difference == 0;
}

void rag_hex(const void *data, size_t size, char *out) {
  static const char digits[] = "0123456789abcdef";
  const unsigned char *bytes = data;
  for (size_t i = 0; i < size; i++) {
    out[2 * i] = digits[bytes[i] >> 4];
    out[2 * i + 1] = digits[bytes[i] & 15];
  }
  out[2 * size] = '\0';
}
