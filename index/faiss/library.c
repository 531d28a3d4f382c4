// All that calls FAISS but for training and adding (build.c): its errors as ours, its threads tamed, one search, files.
//
// A file goes through a FILE that reads from a slice or writes to a sink (fopencookie), as every version's C API takes
// one; later ones have readers of their own, whose callbacks get no context.
#include "index/faiss/library_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <faiss/c_api/AutoTune_c.h>
#include <faiss/c_api/error_c.h>
#include <faiss/c_api/index_factory_c.h>
#include <faiss/c_api/index_io_c.h>
#if defined(RAGD_FAISS_SEARCH_WITH_PARAMETERS) && defined(RAGD_FAISS_SELECTOR_BITMAP)
#define RAGD_FAISS_PARAMETERS // the two came together
#include <faiss/c_api/IndexIVF_c.h>
#include <faiss/c_api/impl/AuxIndexStructures_c.h>
#endif
#ifdef RAGD_FAISS_PARAMETERS_HNSW
#include <faiss/c_api/IndexHNSW_c.h>
#endif

// OpenMP's and OpenBLAS's own, declared here: their headers come with one compiler's packages and not with another's.
void omp_set_num_threads(int threads);
int omp_get_max_threads(void);
int omp_pause_resource_all(int kind) __attribute__((weak)); // OpenMP 5
void openblas_set_num_threads(int threads) __attribute__((weak));
#define OMP_PAUSE_SOFT 1

const char *rag_faiss_version(void) {
  return RAGD_FAISS_VERSION;
}

// ---------------------------------------------------------------------------------------------- errors

// "Error in void faiss::F(int) at /a/b.cpp:12: Error: 'd % M == 0' failed: The dimension ..." is "The dimension ...".
static const char *reason_in(const char *text) {
  const char *at = strstr(text, ".cpp:");
  if (!at) at = strstr(text, ".h:");
  if (at && strncmp(text, "Error in ", 9) == 0) {
    at = strstr(at, ": ");
    if (at) text = at + 2;
  }
  const char *failed = strstr(text, "' failed: ");
  return failed && failed[10] ? failed + 10 : text;
}

// The C library of 1.7.3 keeps of an exception that is not FAISS's own nothing but "std::exception"; once an index is
// made, the only one of them that comes is that memory is out.
rag_status rag_faiss__fail(rag_error *err, rag_status status, const char *what) {
  const char *text = faiss_get_last_error();
  if (!text) text = "it gave no reason";
  bool unnamed = strcmp(text, "std::exception") == 0 && status != RAG_INVALID_ARGUMENT;
  if (unnamed || strstr(text, "bad_alloc")) return rag_fail(err, RAG_RESOURCE_EXHAUSTED, "%s: out of memory", what);
  if (strcmp(text, "std::exception") == 0) text = "it has a number that is out of range, or cannot be read";
  return rag_fail(err, status, "%s: %s", what, reason_in(text));
}

rag_status rag_faiss__create(const char *factory, uint32_t dimension, bool l2, FaissIndex **out, rag_error *err) {
  FaissMetricType metric = l2 ? METRIC_L2 : METRIC_INNER_PRODUCT;
  FaissIndex *index = NULL;
  if (faiss_index_factory(&index, (int)dimension, factory, metric) != 0) {
    return rag_faiss__fail(err, RAG_INVALID_ARGUMENT, "FAISS");
  }
  if (faiss_Index_d(index) != (int)dimension || faiss_Index_metric_type(index) != metric) {
    faiss_Index_free(index);
    return rag_fail(err, RAG_INVALID_ARGUMENT, "it is of another dimension or metric");
  }
  *out = index;
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- threads

rag_faiss__threads rag_faiss__threads_one(void) {
  rag_faiss__threads threads = {omp_get_max_threads()};
  if (threads.before != 1) omp_set_num_threads(1);
  return threads;
}

void rag_faiss__threads_restore(rag_faiss__threads threads) {
  if (threads.before != 1) omp_set_num_threads(threads.before);
}

// OpenBLAS has one number for the process. Searches multiply single vectors, mostly by themselves, so it is theirs, 1,
// but while a build runs.
static pthread_mutex_t build_lock = PTHREAD_MUTEX_INITIALIZER;

rag_faiss__threads rag_faiss__build_begin(uint32_t threads) {
  pthread_mutex_lock(&build_lock);
  rag_faiss__threads before = {omp_get_max_threads()};
  omp_set_num_threads((int)threads);
  if (openblas_set_num_threads) openblas_set_num_threads((int)threads);
  return before;
}

void rag_faiss__build_end(rag_faiss__threads threads) {
  omp_set_num_threads(threads.before);
  if (openblas_set_num_threads) openblas_set_num_threads(1);
  // The threads of this one's loops would wait for its next loop for ever.
  if (omp_pause_resource_all) omp_pause_resource_all(OMP_PAUSE_SOFT);
  pthread_mutex_unlock(&build_lock);
}

// ---------------------------------------------------------------------------------------------- the knob

static const char *const knob_names[] = {"", "nprobe", "efSearch"};

static bool turn(FaissIndex *index, rag_faiss_knob knob, uint32_t value) {
  FaissParameterSpace *space = NULL;
  if (faiss_ParameterSpace_new(&space) != 0) return false;
  int rc = faiss_ParameterSpace_set_index_parameter(space, index, knob_names[knob], (double)value);
  faiss_ParameterSpace_free(space);
  return rc == 0;
}

#define VALUE_IN_FILES 16u // of any knob: FAISS writes it with the index, and equal indexes have equal bytes

rag_faiss_knob rag_faiss__find_knob(FaissIndex *index) {
  if (turn(index, RAG_FAISS_NPROBE, VALUE_IN_FILES)) return RAG_FAISS_NPROBE;
  if (turn(index, RAG_FAISS_EF_SEARCH, VALUE_IN_FILES)) return RAG_FAISS_EF_SEARCH;
  return RAG_FAISS_NO_KNOB;
}

rag_status rag_faiss__engine_create(FaissIndex *index, const rag_faiss_meta *meta, rag_faiss **out, rag_error *err) {
  rag_faiss *engine = rag_calloc(1, sizeof *engine);
  if (!engine) {
    faiss_Index_free(index);
    return rag_fail_no_memory(err, sizeof *engine);
  }
  engine->meta = *meta;
  engine->index = index;
  pthread_rwlockattr_t attributes;
  pthread_rwlockattr_init(&attributes);
  // One that wants another value must not wait for ever behind those that come and go.
  pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
  int rc = pthread_rwlock_init(&engine->knob_lock, &attributes);
  pthread_rwlockattr_destroy(&attributes);
  RAG_ASSERT(rc == 0);
  *out = engine;
  return RAG_OK;
}

void rag_faiss_destroy(rag_faiss *engine) {
  if (!engine) return;
  faiss_Index_free(engine->index);
  pthread_rwlock_destroy(&engine->knob_lock);
  rag_free(engine);
}

// ---------------------------------------------------------------------------------------------- one search

#ifdef RAGD_FAISS_PARAMETERS
static int ask_with(const rag_faiss *e, const float *vector, uint32_t value, uint32_t take, const uint64_t *selector,
                    float *distances, faiss_idx_t *labels) {
  FaissIDSelectorBitmap *selected = NULL;
  FaissSearchParameters *parameters = NULL;
  int rc = 0;
  if (selector) {
    size_t bytes = ((size_t)e->meta.rows + 7) / 8;
    rc = faiss_IDSelectorBitmap_new(&selected, bytes, (const uint8_t *)selector);
  }
  FaissIDSelector *chosen = (FaissIDSelector *)selected;
  if (rc != 0) {
  } else if (e->meta.knob == RAG_FAISS_NPROBE) {
    rc = faiss_SearchParametersIVF_new_with(&parameters, chosen, value, 0);
#ifdef RAGD_FAISS_PARAMETERS_HNSW
  } else if (e->meta.knob == RAG_FAISS_EF_SEARCH) {
    rc = faiss_SearchParametersHNSW_new_with(&parameters, chosen, (int)value);
#endif
  } else {
    rc = faiss_SearchParameters_new(&parameters, chosen);
  }
  if (rc == 0) rc = faiss_Index_search_with_params(e->index, 1, vector, take, parameters, distances, labels);
  if (parameters) faiss_SearchParameters_free(parameters);
  if (selected) faiss_IDSelectorBitmap_free(selected);
  return rc;
}
#endif

static int ask_locked(rag_faiss *e, const float *vector, uint32_t value, uint32_t take, float *distances,
                      faiss_idx_t *labels) {
  pthread_rwlock_rdlock(&e->knob_lock);
  bool mine = e->knob_is == value;
  if (!mine) {
    pthread_rwlock_unlock(&e->knob_lock);
    pthread_rwlock_wrlock(&e->knob_lock);
    mine = turn(e->index, (rag_faiss_knob)e->meta.knob, value);
    e->knob_is = mine ? value : 0;
  }
  int rc = mine ? faiss_Index_search(e->index, 1, vector, take, distances, labels) : -1;
  pthread_rwlock_unlock(&e->knob_lock);
  return rc;
}

rag_status rag_faiss__ask(const rag_faiss *engine, const float *vector, uint32_t value, uint32_t take,
                          const uint64_t *selector, float *distances, faiss_idx_t *labels, rag_error *err) {
  rag_faiss__threads threads = rag_faiss__threads_one();
  int rc;
#ifdef RAGD_FAISS_PARAMETERS
  if (engine->can_tell && (engine->meta.knob != RAG_FAISS_NO_KNOB || selector)) {
    rc = ask_with(engine, vector, value, take, selector, distances, labels);
  } else
#endif
      if (engine->meta.knob == RAG_FAISS_NO_KNOB) {
    rc = faiss_Index_search(engine->index, 1, vector, take, distances, labels);
  } else {
    rc = ask_locked((rag_faiss *)(uintptr_t)engine, vector, value, take, distances, labels); // its lock and its knob
  }
  RAG_UNUSED(selector);
  rag_faiss__threads_restore(threads);
  return rc == 0 ? RAG_OK : rag_faiss__fail(err, RAG_INTERNAL, "FAISS could not search");
}

// Asks with one row let through, and again with another: whatever else is answered was not filtered.
void rag_faiss__probe(rag_faiss *engine) {
  engine->can_tell = engine->can_select = false;
#ifdef RAGD_FAISS_PARAMETERS
  const rag_faiss_meta *meta = &engine->meta;
#ifndef RAGD_FAISS_PARAMETERS_HNSW
  if (meta->knob == RAG_FAISS_EF_SEARCH) return;
#endif
  size_t words = meta->rows / 64 + 1;
  uint64_t *one = rag_calloc(words, sizeof *one);
  float *vector = rag_calloc(meta->dimension, sizeof *vector), distances[2];
  faiss_idx_t labels[2];
  uint32_t value = RAG_MAX(meta->knob_max, 16u);
  if (one && vector) {
    vector[0] = 1;
    rag_faiss__threads threads = rag_faiss__threads_one();
    engine->can_tell = ask_with(engine, vector, value, 1, NULL, distances, labels) == 0;
    engine->can_select = engine->can_tell;
    for (uint32_t row = 0; row < 2 && engine->can_select; row++) {
      uint32_t id = row == 0 ? 0 : meta->rows - 1;
      one[id / 64] |= 1ull << id % 64;
      labels[0] = labels[1] = -1;
      engine->can_select = ask_with(engine, vector, value, 2, one, distances, labels) == 0 &&
                           (labels[0] < 0 || labels[0] == id) && (labels[1] < 0 || labels[1] == id);
      one[id / 64] = 0;
    }
    rag_faiss__threads_restore(threads);
  }
  rag_free(one);
  rag_free(vector);
#endif
}

// ---------------------------------------------------------------------------------------------- files

typedef struct writing {
  const rag_faiss_sink *sink;
  rag_status status;
  rag_error err;
} writing;

static ssize_t write_some(void *cookie, const char *data, size_t size) {
  writing *w = cookie;
  if (w->status == RAG_OK) w->status = w->sink->append(w->sink->context, data, size, &w->err);
  if (w->status == RAG_OK) return (ssize_t)size;
  errno = EIO;
  return 0;
}

static rag_status save(const FaissIndex *index, const rag_faiss_sink *sink, rag_error *err) {
  writing w = {.sink = sink};
  FILE *file = fopencookie(&w, "w", (cookie_io_functions_t){.write = write_some});
  if (!file) return rag_fail_no_memory(err, BUFSIZ);
  int rc = faiss_write_index(index, file);
  rag_status status = rc == 0 ? RAG_OK : rag_faiss__fail(err, RAG_INTERNAL, "FAISS could not write its index");
  if (fclose(file) != 0 && status == RAG_OK && w.status == RAG_OK) status = rag_fail_no_memory(err, BUFSIZ);
  if (w.status == RAG_OK) return status;
  if (err) *err = w.err;
  return w.status;
}

rag_status rag_faiss_write(const rag_faiss *engine, const rag_faiss_sink *sink, rag_error *err) {
  rag_faiss *e = (rag_faiss *)(uintptr_t)engine; // its lock and its knob
  rag_status status = RAG_OK;
  pthread_rwlock_wrlock(&e->knob_lock);
  if (e->meta.knob != RAG_FAISS_NO_KNOB && !turn(e->index, (rag_faiss_knob)e->meta.knob, VALUE_IN_FILES)) {
    status = rag_faiss__fail(err, RAG_INTERNAL, "FAISS could not set a parameter");
  }
  e->knob_is = VALUE_IN_FILES;
  if (status == RAG_OK) status = save(e->index, sink, err);
  pthread_rwlock_unlock(&e->knob_lock);
  return status;
}

typedef struct reading {
  rag_slice bytes;
  size_t at;
} reading;

static ssize_t read_some(void *cookie, char *out, size_t size) {
  reading *r = cookie;
  size = RAG_MIN(size, r->bytes.size - r->at);
  memcpy(out, r->bytes.data + r->at, size);
  r->at += size;
  return (ssize_t)size;
}

rag_status rag_faiss__load(rag_slice bytes, FaissIndex **out, rag_error *err) {
  reading r = {bytes, 0};
  FILE *file = fopencookie(&r, "r", (cookie_io_functions_t){.read = read_some});
  if (!file) return rag_fail_no_memory(err, BUFSIZ);
  FaissIndex *index = NULL;
  int rc = faiss_read_index(file, 0, &index);
  int behind = rc == 0 ? fgetc(file) : EOF;
  fclose(file);
  if (rc != 0) return rag_faiss__fail(err, RAG_FAILED_PRECONDITION, "FAISS could not read its index");
  if (behind != EOF) {
    faiss_Index_free(index);
    return rag_fail(err, RAG_DATA_LOSS, "there are bytes behind FAISS's index");
  }
  *out = index;
  return RAG_OK;
}
