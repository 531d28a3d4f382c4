// Checks a factory string before FAISS sees it, and what FAISS made of it.
//
// FAISS reads the string with regular expressions and says of most mistakes what they are. What it does not catch: a
// number of 0 (it divides by it), one so large that memory ends, and "Index0", a name of its own for what stands in
// parentheses, by which it ends the process. These are refused here.
#include "index/faiss/library_internal.h"

#include <ctype.h>

static rag_status refuse(rag_error *err, const char *factory, const char *why) {
  return rag_fail_field(err, RAG_INVALID_ARGUMENT, "index.factory", "\"%.*s\" %s", (int)RAG_FAISS_FACTORY_MAX, factory,
                        why);
}

// The number behind `word` wherever it stands, the largest one; 0: none.
static uint32_t number_behind(const char *factory, const char *word) {
  uint32_t largest = 0;
  size_t size = strlen(word);
  for (const char *at = factory; (at = strstr(at, word)) != NULL; at += size) {
    uint32_t number = 0;
    for (const char *digit = at + size; isdigit((unsigned char)*digit) && number < RAG_FAISS_ROWS_MAX / 16; digit++) {
      number = number * 10 + (uint32_t)(*digit - '0');
    }
    largest = RAG_MAX(largest, number);
  }
  return largest;
}

// The bits of "PQ32x8", "PRQ2x4x6", "RQ3x10_2x6": the numbers behind an x; 8 where PQ names none.
static uint32_t code_bits(const char *factory) {
  uint32_t bits = number_behind(factory, "x");
  return bits == 0 && strstr(factory, "PQ") ? 8 : bits;
}

uint32_t rag_faiss__lists(const char *factory) {
  uint32_t bits = number_behind(factory, "IMI2x");
  return bits > 0 ? 1u << 2 * RAG_MIN(bits, 10u) : number_behind(factory, "IVF");
}

uint32_t rag_faiss_rows_min(const char *factory) {
  uint32_t bits = RAG_MIN(code_bits(factory), RAG_FAISS_CODE_BITS_MAX);
  return RAG_MAX(RAG_MAX(rag_faiss__lists(factory), bits > 0 ? 1u << bits : 1u), 1u);
}

static bool stands_alone(const char *factory, const char *word) { // at the start, or behind a comma
  size_t size = strlen(word);
  for (const char *at = factory; at; at = strchr(at, ',')) {
    at += *at == ',';
    if (strncmp(at, word, size) == 0) return true;
  }
  return false;
}

static rag_status check_text(const char *factory, rag_error *err) {
  if (factory[0] == 0) return refuse(err, factory, "is empty; write a FAISS factory string, such as \"IVF256,Flat\"");
  if (strnlen(factory, RAG_FAISS_FACTORY_MAX) == RAG_FAISS_FACTORY_MAX) {
    return refuse(err, factory, "is too long; 127 bytes are the most");
  }
  for (const char *at = factory; *at; at++) {
    if (!isalnum((unsigned char)*at) && !strchr(",_()+-.:", *at)) {
      return refuse(err, factory, "has a character that no FAISS factory string has");
    }
    if (!isdigit((unsigned char)*at) || (at > factory && (isdigit((unsigned char)at[-1]) || at[-1] == '.'))) continue;
    const char *digit = at;
    while (*digit == '0') digit++;
    if (!isdigit((unsigned char)*digit) && *digit != '.') return refuse(err, factory, "has a number that is 0");
    size_t digits = strspn(digit, "0123456789");
    if (digits > 7) return refuse(err, factory, "has a number that is too large");
  }
  static const char *const never[] = {"IDMap", "NSG", "Index"};
  for (size_t i = 0; i < RAG_COUNT_OF(never); i++) {
    if (strstr(factory, never[i])) return refuse(err, factory, "names a kind (IDMap, NSG, Index) that is not served");
  }
  static const char *const not_alone[] = {"RCQ", "LSCQ", "Residual"};
  for (size_t i = 0; i < RAG_COUNT_OF(not_alone); i++) {
    if (stands_alone(factory, not_alone[i])) return refuse(err, factory, "is a quantiser, which cannot be searched");
  }
  if (number_behind(factory, "IMI2x") > 8) return refuse(err, factory, "has too many lists; IMI2x8 is the most");
  if (rag_faiss__lists(factory) > RAG_FAISS_LISTS_MAX) {
    return refuse(err, factory, "has too many lists; 1048576 are the most");
  }
  if (code_bits(factory) > RAG_FAISS_CODE_BITS_MAX) {
    return refuse(err, factory, "has codes of too many bits; 12 are the most");
  }
  return RAG_OK;
}

// ",RFlat" or ",Refine(...)" at the end: FAISS would score its candidates again from what it keeps beside its codes. Every
// index is re-scored here, from the rows there are, so that memory is not spent; and the calibration can see how far down
// the codes have put a row. The size of what is in front, or 0.
static size_t size_without_refinement(const char *factory) {
  size_t size = strlen(factory);
  const char *refine = strstr(factory, ",Refine(");
  if (size > 6 && strcmp(factory + size - 6, ",RFlat") == 0) return size - 6;
  return refine && factory[size - 1] == ')' ? (size_t)(refine - factory) : 0;
}

// The string as FAISS is given it: without the refinement, and each "PQ16" that would be trained for polysemous codes as
// "PQ16np": no search here uses them, and that training was four fifths of the time of the tests.
static void trim(const char *factory, char out[2 * RAG_FAISS_FACTORY_MAX]) {
  size_t size = size_without_refinement(factory), at = 0, to = 0;
  if (size == 0) size = strlen(factory);
  while (at < size) {
    bool begins = at == 0 || strchr(",_(", factory[at - 1]);
    size_t end = at + 2;
    if (begins && strncmp(factory + at, "PQ", 2) == 0) {
      end += strspn(factory + end, "0123456789");
      if (factory[end] == 'x') end += 1 + strspn(factory + end + 1, "0123456789");
      if (end == size || factory[end] == ',' || factory[end] == ')') {
        memcpy(out + to, factory + at, end - at);
        to += end - at;
        memcpy(out + to, "np", 2);
        to += 2;
        at = end;
        continue;
      }
    }
    out[to++] = factory[at++];
  }
  out[to] = 0;
}

static rag_status create(const char *factory, uint32_t dimension, bool l2, FaissIndex **out, rag_error *err) {
  FaissIndex *index = NULL;
  RAG_TRY(rag_faiss__create(factory, dimension, l2, &index, err)); // whatever is wrong with it, the refinement included
  char trimmed[2 * RAG_FAISS_FACTORY_MAX];
  trim(factory, trimmed);
  if (strcmp(trimmed, factory) != 0) {
    faiss_Index_free(index);
    RAG_TRY(rag_faiss__create(trimmed, dimension, l2, &index, err));
  }
  *out = index;
  return RAG_OK;
}

rag_status rag_faiss__make(const char *factory, uint32_t dimension, rag_metric metric, FaissIndex **out,
                           rag_error *err) {
  RAG_TRY(check_text(factory, err));
  if (dimension == 0 || dimension > RAG_DIMENSION_MAX) {
    return rag_fail(err, RAG_INVALID_ARGUMENT, "%u dimensions; there can be 1 to %u", dimension, RAG_DIMENSION_MAX);
  }
  // Some kinds know squared distances alone; of vectors of length 1 these give the order of inner products.
  rag_error first;
  rag_status status = create(factory, dimension, metric == RAG_METRIC_L2, out, &first);
  if (status == RAG_INVALID_ARGUMENT && metric == RAG_METRIC_COSINE) {
    status = create(factory, dimension, true, out, NULL);
  }
  if (status != RAG_INVALID_ARGUMENT) {
    if (status != RAG_OK && err) *err = first;
    return status;
  }
  return rag_fail_field(err, RAG_INVALID_ARGUMENT, "index.factory",
                        "FAISS %s takes no \"%s\" for %u dimensions and %s: %s", rag_faiss_version(), factory,
                        dimension, rag_metric_name(metric), first.message);
}

rag_status rag_faiss_check(const char *factory, uint32_t dimension, rag_metric metric, rag_error *err) {
  FaissIndex *index = NULL;
  RAG_TRY(rag_faiss__make(factory, dimension, metric, &index, err));
  faiss_Index_free(index);
  return RAG_OK;
}
