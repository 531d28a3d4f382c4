// The engines that bench_ann measures, behind one door: a build, and searches with any number of threads.
#ifndef RAGD_BENCH_ANN_ENGINES_H
#define RAGD_BENCH_ANN_ENGINES_H

#include "base/json.h"
#include "index/index.h"

typedef struct matrix { // a .fbin or .ibin file, mapped: u32 rows, u32 columns, 4-byte values
  uint32_t rows, columns;
  union {
    const float *floats;
    const int32_t *integers;
  };
} matrix;

typedef struct row_filter { // made before the clock runs, as for the peers
  uint64_t *words;
  uint64_t survivors;
  rag_bitmap *bitmap;
} row_filter;

typedef enum engine_kind { KIND_GRAPH, KIND_IVF, KIND_FLAT } engine_kind;

typedef struct engine engine;
// The sweep, as the protocol has it: a JSON array of {"build": , "searches": }.
void engine_sweep(engine_kind kind, uint32_t rows, rag_buf *out);
engine *engine_create(engine_kind kind, const matrix *base);
void engine_build(engine *e, rag_json build, uint32_t threads);
uint64_t engine_stored_bytes(const engine *e);

typedef struct searcher searcher; // one thread's
searcher *searcher_create(const engine *e);
void searcher_destroy(searcher *s);
void searcher_set(searcher *s, rag_json search);
// ids: k of them, -1 where there is none. filter: NULL for every row.
void searcher_search(searcher *s, const float *query, uint32_t k, const row_filter *filter, int32_t *ids);

_Noreturn void fail(const char *what);
void check(rag_status status, const rag_error *err);
uint32_t number_of(rag_json object, const char *name, uint32_t otherwise);

#endif
