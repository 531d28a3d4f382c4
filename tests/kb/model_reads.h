// The comparison of test_model.c: what a kb answers at a ref beside what the model says. Part of that file (it uses its
// types, its random numbers and its CHECK), and apart from it to keep each readable.
#ifndef RAGD_TESTS_KB_MODEL_READS_H
#define RAGD_TESTS_KB_MODEL_READS_H

static uint32_t id_number(rag_slice id) {
  for (uint32_t i = 0; i < IDS; i++)
    if (rag_slice_equal(id, S(ids[i]))) return i;
  CHECK(false, "id '%.*s'", (int)id.size, id.data);
  return 0;
}

static void check_document(const rag_document *document, doc want) {
  CHECK(want.text != 0, "'%.*s' should not be there", (int)document->id.size, document->id.data);
  CHECK(rag_slice_equal(document->text, S(texts[want.text])), "text of '%.*s'", (int)document->id.size,
        document->id.data);
  CHECK(rag_slice_equal(document->metadata, S(metas[want.meta])), "metadata of '%.*s'", (int)document->id.size,
        document->id.data);
  CHECK(rag_slice_equal(document->source_uri, S(sources[want.source])), "source of '%.*s'", (int)document->id.size,
        document->id.data);
}

// first_chunk: by id, for the order of ties in a search.
static void check_listing(model *m, const char *ref, uint32_t at, const rag_filter *filter, uint32_t first_chunk[IDS]) {
  rag_error err = {0};
  const doc *want = m->commit[at].docs;
  uint32_t after = 0, seen = 0, expected = 0, page = 1 + pick(IDS + 1);
  do {
    rag_document *documents = NULL;
    uint32_t count = 0;
    uint64_t answered = 0;
    DO(rag_kb_documents(m->kb, S(ref), filter, after, page, &documents, &count, &after, &answered, &err));
    CHECK(answered == at, "listing %s: c%u instead of c%u", ref, (unsigned)answered, at);
    for (uint32_t i = 0; i < count; i++, seen++) {
      uint32_t id = id_number(documents[i].id);
      check_document(&documents[i], want[id]);
      CHECK(passes(filter, id, want[id]), "'%s' does not pass", ids[id]);
      first_chunk[id] = documents[i].first_chunk;
      rag_document_free(&documents[i]);
    }
    rag_free(documents);
  } while (after != 0);
  for (uint32_t id = 0; id < IDS; id++) expected += passes(filter, id, want[id]);
  CHECK(seen == expected, "listing %s: %u documents instead of %u", ref, seen, expected);
}

static void check_get(model *m, const char *ref, uint32_t at) {
  rag_error err = {0};
  uint32_t id = pick(IDS);
  rag_document document = {0};
  rag_status status = rag_kb_document_get(m->kb, S(ref), S(ids[id]), &document, &err);
  if (m->commit[at].docs[id].text == 0) {
    CHECK(status == RAG_NOT_FOUND, "'%s' at %s", ids[id], ref);
    return;
  }
  DO(status);
  check_document(&document, m->commit[at].docs[id]);
  rag_document_free(&document);
}

static void check_diff(model *m, const char *ref, uint32_t at) {
  rag_error err = {0};
  char other[64];
  uint32_t to = ref_pick(m, other);
  rag_diff diff = {0};
  bool listed[IDS] = {false};
  DO(rag_kb_diff(m->kb, S(ref), S(other), &diff, &err));
  for (size_t i = 0; i < diff.count; i++) {
    const rag_diff_entry *e = &diff.entries[i];
    uint32_t id = id_number(S(e->id));
    doc a = m->commit[at].docs[id], b = m->commit[to].docs[id];
    CHECK(!listed[id], "'%s' twice", e->id);
    listed[id] = true;
    CHECK(e->change == (a.text == 0   ? RAG_CHANGE_ADDED
                        : b.text == 0 ? RAG_CHANGE_REMOVED
                                      : RAG_CHANGE_CHANGED) &&
              (a.text | b.text) != 0,
          "'%s' from %s to %s: change %d", e->id, ref, other, e->change);
    CHECK(e->text_changed || a.text == b.text, "'%s' from %s to %s: the text has changed", e->id, ref, other);
  }
  for (uint32_t id = 0; id < IDS; id++)
    CHECK(listed[id] || doc_equal(m->commit[at].docs[id], m->commit[to].docs[id]), "'%s' from %s to %s is not listed",
          ids[id], ref, other);
  rag_diff_free(&diff);
}

static void check_log(model *m, const char *ref, uint32_t at) {
  rag_error err = {0};
  uint64_t below = 0;
  uint32_t page = 1 + pick(50), next = at;
  do {
    rag_commit_info *items = NULL;
    uint32_t count = 0;
    DO(rag_kb_log(m->kb, S(ref), below, page, &items, &count, &below, &err));
    for (uint32_t i = 0; i < count; i++) {
      const commit *want = &m->commit[next];
      CHECK(items[i].id == next, "log of %s: c%u instead of c%u", ref, (unsigned)items[i].id, next);
      CHECK(items[i].parents[0] == want->parents[0] && items[i].parents[1] == want->parents[1], "parents of c%u", next);
      uint32_t documents = 0;
      for (uint32_t id = 0; id < IDS; id++) documents += want->docs[id].text != 0;
      CHECK(items[i].documents == documents, "documents of c%u", next);
      next = m->commit[want->parents[0]].dropped ? 0 : want->parents[0];
      rag_commit_info_free(&items[i]);
    }
    rag_free(items);
  } while (below != 0);
  CHECK(next == 0, "log of %s ends before c%u", ref, next);
}

typedef struct oracle_hit {
  uint32_t id, chunk, ordinal;
  float score;
} oracle_hit;

static int compare_hits(const void *a, const void *b) {
  const oracle_hit *x = a, *y = b;
  if (x->score != y->score) return x->score > y->score ? -1 : 1;
  return x->ordinal < y->ordinal ? -1 : x->ordinal > y->ordinal;
}

static void check_search(model *m, const char *ref, uint32_t at, const rag_filter *filter,
                         const uint32_t first_chunk[IDS]) {
  rag_error err = {0};
  size_t k = (size_t)(m - models);
  uint32_t dimension = rag_embedder_dimension(embedders[k]), count = 0;
  const char *query = texts[1 + pick(TEXTS - 1)];
  float vector[DIMENSION_MAX];
  oracle_hit want[IDS * CHUNKS_MAX];
  rag_slice query_slice = rag_slice_of(query, strlen(query) / (1 + pick(3)));
  if (query_slice.size == 0) return;
  DO(rag_embedder_embed(embedders[k], RAG_EMBED_QUERY, &query_slice, 1, vector, &err));
  for (uint32_t id = 0; id < IDS; id++) {
    const cut_text *cut = &cuts[k][m->commit[at].docs[id].text];
    for (uint32_t c = 0; passes(filter, id, m->commit[at].docs[id]) && c < cut->count; c++)
      want[count++] = (oracle_hit){id, c, first_chunk[id] + c,
                                   rag_vector_score(vector, cut->vectors[c], dimension, RAG_METRIC_COSINE)};
  }
  qsort(want, count, sizeof *want, compare_hits);
  rag_search search = {.mode = RAG_SEARCH_VECTOR,
                       .query = query_slice,
                       .k = 1 + pick(20),
                       .offset = pick(3) ? 0 : pick(10),
                       .at = S(ref),
                       .filter = filter,
                       .exact = true,
                       .want_text = true,
                       .want_metadata = true};
  rag_search_result result = {0};
  DO(rag_kb_search(m->kb, &search, &result, &err));
  uint32_t left = count > search.offset ? count - search.offset : 0;
  CHECK(result.commit == at, "search at %s: c%u", ref, (unsigned)result.commit);
  CHECK(result.count == RAG_MIN(left, search.k), "search at %s: %u hits instead of %u", ref, result.count,
        RAG_MIN(left, search.k));
  for (uint32_t i = 0; i < result.count; i++) {
    const rag_hit *hit = &result.hits[i];
    const oracle_hit *w = &want[search.offset + i];
    doc d = m->commit[at].docs[w->id];
    rag_span span = cuts[k][d.text].spans[w->chunk];
    CHECK(rag_slice_equal(hit->document_id, S(ids[w->id])) && hit->chunk == w->ordinal,
          "hit %u at %s: chunk %u of '%.*s'", i, ref, hit->chunk, (int)hit->document_id.size, hit->document_id.data);
    CHECK(hit->score == w->score && hit->start == span.start && hit->end == span.end, "hit %u at %s", i, ref);
    CHECK(rag_slice_equal(hit->text, rag_slice_of(texts[d.text] + span.start, span.end - span.start)), "hit text");
    CHECK(rag_slice_equal(hit->metadata, S(metas[d.meta])), "hit metadata at %s: %.*s", ref, (int)hit->metadata.size,
          hit->metadata.data);
    CHECK(rag_slice_equal(hit->source_uri, S(sources[d.source])), "hit source at %s", ref);
  }
  rag_search_result_free(&result);
}

// A word that one text alone has, at its begin: the documents that have the text, each by its first chunk, whose scores
// are equal.
static void check_word(model *m, const char *ref, uint32_t at, const rag_filter *filter,
                       const uint32_t first_chunk[IDS]) {
  rag_error err = {0};
  char word[16];
  uint32_t text = 1 + pick(TEXTS - 1), seen = 0, last = 0, want = 0;
  rag_search search = {.mode = RAG_SEARCH_LEXICAL, .k = 20, .at = S(ref), .filter = filter};
  rag_search_result result = {0};
  snprintf(word, sizeof word, "text%u", text);
  search.query = S(word);
  for (uint32_t id = 0; id < IDS; id++) {
    doc d = m->commit[at].docs[id];
    want += d.text == text && passes(filter, id, d);
  }
  DO(rag_kb_search(m->kb, &search, &result, &err));
  for (; seen < result.count; seen++) {
    const rag_hit *hit = &result.hits[seen];
    uint32_t id = id_number(hit->document_id);
    CHECK(m->commit[at].docs[id].text == text && passes(filter, id, m->commit[at].docs[id]), "'%s' at %s for %s",
          ids[id], ref, word);
    CHECK(hit->chunk == first_chunk[id] && hit->chunk > last, "chunk %u of '%s' at %s for %s", hit->chunk, ids[id], ref,
          word);
    CHECK(hit->score == result.hits[0].score, "scores at %s for %s", ref, word);
    last = hit->chunk;
  }
  CHECK(seen == want, "search at %s for %s: %u hits instead of %u", ref, word, seen, want);
  rag_search_result_free(&result);
}

static void check(model *m) {
  char ref[64];
  uint32_t first_chunk[IDS] = {0};
  uint32_t at = ref_pick(m, ref);
  const rag_filter *filter = pick(3) == 0 ? filters[pick(FILTERS)] : NULL;
  check_listing(m, ref, at, filter, first_chunk);
  check_get(m, ref, at);
  check_diff(m, ref, at);
  if (pick(4) == 0) check_log(m, ref, at);
  check_search(m, ref, at, filter, first_chunk);
  check_word(m, ref, at, filter, first_chunk);
}

#endif
