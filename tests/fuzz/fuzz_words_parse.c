// Goal: no text makes the analyser or the query parser crash, read past it, or break what index.h promises of tokens
// and clauses. Method: libFuzzer. The first byte picks the language. Two runs of one analyser must agree.
#include "index/index.h"
#include "tests/fuzz/fuzz.h"

static const char *const tags[] = {"en", "de", "fr", "tr", "ru", "th", "und"};
static rag_analyzer *analyzers[RAG_COUNT_OF(tags)]; // kept for all inputs

typedef struct checker {
  size_t size;
  uint32_t path, crc;
} checker;

static bool check_token(void *context, const rag_token *token) {
  checker *c = context;
  REQUIRE(token->term.size >= 1 && token->term.size <= RAG_TERM_BYTES_MAX);
  REQUIRE(rag_utf8_valid(token->term.data, token->term.size));
  REQUIRE(token->start < token->end && token->end <= c->size);
  if (!(token->flags & RAG_TOKEN_EXTRA)) REQUIRE(token->position == c->path++);
  else REQUIRE(token->flags & RAG_TOKEN_WHOLE ? token->position == c->path : token->position + 1 == c->path);
  c->crc = rag_crc32c(c->crc, token->term.data, token->term.size);
  return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size == 0) return 0;
  rag_analyzer **analyzer = &analyzers[data[0] % RAG_COUNT_OF(tags)];
  if (!*analyzer)
    REQUIRE(rag_analyzer_open(rag_slice_str(tags[data[0] % RAG_COUNT_OF(tags)]), analyzer, NULL) == RAG_OK);
  rag_slice text = rag_slice_of(data + 1, size - 1);
  checker first = {text.size, 0, 0}, second = first;
  REQUIRE(rag_analyzer_run(*analyzer, text, check_token, &first) == RAG_OK);
  REQUIRE(rag_analyzer_run(*analyzer, text, check_token, &second) == RAG_OK);
  REQUIRE(first.crc == second.crc && first.path == second.path);

  rag_arena *arena = rag_arena_create(0);
  rag_words_query query;
  REQUIRE(rag_words_parse(*analyzer, text, arena, &query, NULL) == RAG_OK);
  uint32_t terms = 0;
  for (uint32_t i = 0; i < query.clause_count; i++) {
    const rag_words_clause *clause = &query.clauses[i];
    REQUIRE(clause->kind == RAG_WORDS_PHRASE ? clause->term_count >= 2 && clause->term_count <= RAG_WORDS_PHRASE_MAX
                                             : clause->term_count == 1);
    for (uint32_t k = 0; k < clause->term_count; k++, terms++) {
      REQUIRE(clause->terms[k].size >= 1 && clause->terms[k].size <= RAG_TERM_BYTES_MAX);
      REQUIRE(rag_utf8_valid(clause->terms[k].data, clause->terms[k].size));
    }
  }
  REQUIRE(terms <= RAG_WORDS_TERMS_MAX);
  rag_arena_destroy(arena);
  return 0;
}
