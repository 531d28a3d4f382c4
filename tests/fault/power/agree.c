// Does search agree with the rows? The oracle is a knowledge base that nothing has happened to: it gets the documents of
// one version, as the store lists them, in the order of their chunk numbers, and must answer as the recovered one does.
// That leans on three promises: scores have the same bits on every path, statistics of words are exact per version, and
// ties go to the lower chunk number. So every difference is a defect of what was recovered: a vector, a term row, a
// field row, or a live set that is not that of the listing.
#include "tests/fault/power/model.h"

#include <stdio.h>
#include <stdlib.h>

#define DOCUMENTS_MAX (THREADS_MAX * (MAIN_DOCS + SIDE_DOCS))
#define QUERIES 6u
#define HITS 12u

static bool differs(rag_error *err, const char *at, const char *fmt, ...) RAG_PRINTF(3, 4);
static bool differs(rag_error *err, const char *at, const char *fmt, ...) {
  char what[400];
  va_list args;
  va_start(args, fmt);
  vsnprintf(what, sizeof what, fmt, args);
  va_end(args);
  (void)rag_fail(err, RAG_DATA_LOSS, "at '%s', search and rows disagree: %s", at, what);
  return false;
}

static int by_chunk(const void *a, const void *b) {
  const rag_document *x = a, *y = b;
  return x->first_chunk < y->first_chunk ? -1 : x->first_chunk > y->first_chunk;
}

static bool put_all(rag_kb *fresh, const rag_document *documents, uint32_t count, rag_error *err) {
  rag_document_input inputs[DOCUMENTS_MAX];
  rag_write write = {.branch = {NULL, 0}};
  rag_write_result result;
  rag_put put = {.documents = inputs, .document_count = count};
  memset(inputs, 0, sizeof inputs);
  for (uint32_t i = 0; i < count; i++)
    inputs[i] =
        (rag_document_input){.id = documents[i].id, .text = documents[i].text, .metadata = documents[i].metadata};
  return count == 0 || rag_kb_put(fresh, &write, &put, &result, NULL, err) == RAG_OK;
}

static bool same_hits(const char *at, const char *what, const rag_search_result *a, const rag_search_result *b,
                      rag_error *err) {
  if (a->count != b->count) return differs(err, at, "%s: %u hits, and of the rows alone %u", what, a->count, b->count);
  for (uint32_t i = 0; i < a->count; i++) {
    const rag_hit *x = &a->hits[i], *y = &b->hits[i];
    if (!rag_slice_equal(x->document_id, y->document_id) || x->start != y->start || x->end != y->end ||
        memcmp(&x->score, &y->score, sizeof x->score) != 0)
      return differs(err, at, "%s: hit %u is '%.*s' [%u, %u) with %a, and of the rows alone '%.*s' [%u, %u) with %a",
                     what, i, (int)x->document_id.size, x->document_id.data, x->start, x->end, (double)x->score,
                     (int)y->document_id.size, y->document_id.data, y->start, y->end, (double)y->score);
  }
  return true;
}

static bool ask_both(rag_kb *kb, rag_kb *fresh, const char *at, const rag_search *search, const char *what,
                     rag_error *err) {
  rag_search mine = *search;
  rag_search_result a = {0}, b = {0};
  mine.at = rag_slice_str(at);
  bool good = rag_kb_search(kb, &mine, &a, err) == RAG_OK && rag_kb_search(fresh, search, &b, err) == RAG_OK &&
              same_hits(at, what, &a, &b, err);
  rag_search_result_free(&a);
  rag_search_result_free(&b);
  return good;
}

static bool ask_all(rag_kb *kb, rag_kb *fresh, const char *at, const rag_document *documents, uint32_t count,
                    const rag_filter *filter, rag_error *err) {
  static const struct {
    rag_search_mode mode;
    bool exact;
    const char *name;
  } ways[] = {{RAG_SEARCH_VECTOR, true, "exact"},
              {RAG_SEARCH_VECTOR, false, "vector"},
              {RAG_SEARCH_LEXICAL, false, "lexical"},
              {RAG_SEARCH_HYBRID, false, "hybrid"}};
  for (uint32_t q = 0; q < QUERIES && q < count; q++) {
    const rag_document *of = &documents[(uint64_t)q * count / QUERIES % count];
    // Some words of the middle: of one document, or of all ("thread", "version") where the text is short.
    size_t first = of->text.size / 3, size = RAG_MIN(of->text.size - first, (size_t)60);
    for (size_t w = 0; w < RAG_COUNT_OF(ways); w++) {
      for (int filtered = 0; filtered < 2; filtered++) {
        rag_search search = {.mode = ways[w].mode,
                             .exact = ways[w].exact,
                             .query = {of->text.data + (q % 2 ? first : 0), size},
                             .k = HITS,
                             .filter = filtered ? filter : NULL};
        if (!ask_both(kb, fresh, at, &search, ways[w].name, err)) return false;
      }
    }
  }
  return true;
}

static bool same_facets(rag_kb *kb, rag_kb *fresh, const char *at, rag_error *err) {
  rag_slice fields[] = {rag_slice_str("group"), rag_slice_str("owner")};
  rag_facet_query query = {.fields = fields, .field_count = 2, .limit = 100};
  rag_facet_result a = {0}, b = {0};
  bool good = rag_kb_facets(fresh, &query, &b, err) == RAG_OK;
  query.at = rag_slice_str(at);
  good = good && rag_kb_facets(kb, &query, &a, err) == RAG_OK;
  for (uint32_t f = 0; good && f < 2; f++) {
    good = a.facets[f].value_count == b.facets[f].value_count || differs(err, at, "values of facet %u", f);
    for (uint32_t i = 0; good && i < a.facets[f].value_count; i++) {
      const rag_facet_value *x = &a.facets[f].values[i], *y = &b.facets[f].values[i];
      if (x->count != y->count || x->integer != y->integer || !rag_slice_equal(x->string, y->string))
        good = differs(err, at, "facet %u, value %u", f, i);
    }
  }
  rag_facet_result_free(&a);
  rag_facet_result_free(&b);
  return good;
}

static bool compare(rag_kb *kb, rag_kb *fresh, const char *at, rag_error *err) {
  rag_document *documents = NULL;
  const rag_filter *filter = NULL;
  uint32_t count = 0, next = 0;
  uint64_t commit = 0;
  rag_arena *arena = rag_arena_create(0);
  bool good = arena != NULL &&
              rag_kb_documents(kb, rag_slice_str(at), NULL, 0, DOCUMENTS_MAX, &documents, &count, &next, &commit,
                               err) == RAG_OK &&
              (next == 0 || differs(err, at, "more documents than were ever put"));
  if (good && count > 0) {
    qsort(documents, count, sizeof *documents, by_chunk);
    good = put_all(fresh, documents, count, err) &&
           rag_filter_parse(rag_slice_str("{\"should\":[{\"key\":\"group\",\"match\":{\"value\":1}},"
                                          "{\"key\":\"owner\",\"match\":{\"value\":\"t1-x\"}}]}"),
                            arena, &filter, err) == RAG_OK &&
           ask_all(kb, fresh, at, documents, count, filter, err) && same_facets(kb, fresh, at, err);
  }
  for (uint32_t i = 0; i < count; i++) rag_document_free(&documents[i]);
  rag_free(documents);
  rag_arena_destroy(arena);
  return good;
}

bool check_agreement(rag_kb *kb, const char *at, rag_kbs *scratch, uint32_t *serial, rag_error *err) {
  rag_kb_config config;
  rag_write write = {.branch = {NULL, 0}};
  rag_kb *fresh = NULL;
  rag_kb_config_init(&config);
  snprintf(config.name, sizeof config.name, "fresh-%u", (*serial)++);
  snprintf(config.model, sizeof config.model, "hash-32");
  bool good = rag_kbs_create(scratch, &config, &write, &fresh, err) == RAG_OK && compare(kb, fresh, at, err);
  rag_ref_drop(fresh);
  rag_kb_config_free(&config);
  return good;
}
