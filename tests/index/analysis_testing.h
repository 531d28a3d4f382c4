// Tokens and parsed queries as short text, for the golden lists of the analyser's tests.
#ifndef RAGD_TESTS_INDEX_ANALYSIS_TESTING_H
#define RAGD_TESTS_INDEX_ANALYSIS_TESTING_H

#include "index/index.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static inline rag_analyzer *open_analyzer(const char *language) {
  rag_analyzer *analyzer = NULL;
  rag_error err = {0};
  rag_status status = rag_analyzer_open(rag_slice_str(language), &analyzer, &err);
  if (status != RAG_OK) print_message("%s: %s\n", language, err.message);
  assert_int_equal(status, RAG_OK);
  return analyzer;
}

// "term" on the path, "+term" beside it; " ~" after a stop word, " $" a tail, " $$" a lone character, " ^" capitals.
static inline bool print_token(void *context, const rag_token *token) {
  rag_buf *out = context;
  if (out->size) rag_buf_append_char(out, ' ');
  if (token->flags & RAG_TOKEN_EXTRA) rag_buf_append_char(out, '+');
  rag_buf_append(out, token->term.data, token->term.size);
  if (token->flags & RAG_TOKEN_STOP) rag_buf_append_str(out, "~");
  if (token->flags & RAG_TOKEN_UPPER) rag_buf_append_str(out, "^");
  if (token->flags & RAG_TOKEN_TAIL) rag_buf_append_str(out, "$");
  if (token->flags & RAG_TOKEN_LONE) rag_buf_append_str(out, "$");
  return true;
}

static inline void assert_tokens_of(rag_analyzer *analyzer, rag_slice text, const char *expected) {
  rag_buf out = {0};
  assert_int_equal(rag_analyzer_run(analyzer, text, print_token, &out), RAG_OK);
  rag_buf_append_char(&out, '\0');
  assert_string_equal(out.data, expected);
  rag_buf_free(&out);
}

static inline void assert_tokens(const char *language, const char *text, const char *expected) {
  rag_analyzer *analyzer = open_analyzer(language);
  assert_tokens_of(analyzer, rag_slice_str(text), expected);
  rag_analyzer_close(analyzer);
}

// "word", "word*3" (three times), "(a phrase)", "prefix*", with + or - before; " !" truncated, " ?" only stop words.
static inline void print_query(const rag_words_query *query, rag_buf *out) {
  for (uint32_t i = 0; i < query->clause_count; i++) {
    const rag_words_clause *clause = &query->clauses[i];
    if (i) rag_buf_append_char(out, ' ');
    if (clause->occur != RAG_WORDS_SHOULD) rag_buf_append_char(out, clause->occur == RAG_WORDS_MUST ? '+' : '-');
    if (clause->kind == RAG_WORDS_PHRASE) rag_buf_append_char(out, '(');
    for (uint32_t t = 0; t < clause->term_count; t++) {
      if (t) rag_buf_append_char(out, ' ');
      rag_buf_append(out, clause->terms[t].data, clause->terms[t].size);
    }
    if (clause->kind == RAG_WORDS_PHRASE) rag_buf_append_char(out, ')');
    if (clause->kind == RAG_WORDS_PREFIX) rag_buf_append_char(out, '*');
    if (clause->count > 1) rag_buf_printf(out, "*%u", clause->count);
  }
  if (query->truncated) rag_buf_append_str(out, " !");
  if (query->only_stop_words) rag_buf_append_str(out, " ?");
  rag_buf_append_char(out, '\0');
}

#endif
