// Documents for bench_retrieval: from a file of one JSON document a line, or made up. Batches own what they hold.
#ifndef RAGD_BENCH_CORPUS_H
#define RAGD_BENCH_CORPUS_H

#include "kb/kb.h"

#include <stdio.h>
#include <stdlib.h>

#define DIE(...)                                                                                                       \
  do {                                                                                                                 \
    fprintf(stderr, __VA_ARGS__);                                                                                      \
    fputc('\n', stderr);                                                                                               \
    exit(1);                                                                                                           \
  } while (0)
#define MUST(expr)                                                                                                     \
  do {                                                                                                                 \
    rag_error must_err = {0};                                                                                          \
    rag_error *err = &must_err;                                                                                        \
    if ((expr) != RAG_OK) DIE("%s:%d: %s: %s", __FILE__, __LINE__, #expr, err->message);                               \
  } while (0)

typedef struct corpus corpus;

// path NULL: `count` made-up documents: 20 to 100 words (60 in the mean) of a Zipf-Mandelbrot vocabulary of 250,000,
// and metadata {"category", "views", "public"} whose shares are known: category c500 50%, c100 10%, c10 1%, c1 0.1%, one
// of a thousand topics otherwise; views uniform in [0, 1,000,000).
corpus *corpus_open(const char *path, uint32_t count);
void corpus_close(corpus *c);
// The next at most `count` documents, valid until the next call; 0 at the end.
uint32_t corpus_next(corpus *c, uint32_t count, rag_document_input *out);

uint32_t bench_random(uint32_t below);

#endif
