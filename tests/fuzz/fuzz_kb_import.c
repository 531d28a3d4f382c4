// Goal: no export stream makes an import crash, hang, leave anything behind when it is refused, or put into the store
// what a kb of ours could not have written; what is imported can be read, searched, checked and exported again.
// Method: the first byte's lowest bit has every checksum recomputed, of frames, of bitmaps in rows, of the trailer with
// its counts and digest; its next bits choose how many bytes a read gives. The mutator knows frames and rows: it
// changes one field of a row, or takes, doubles or moves rows, and keeps the lengths around them right.
#include "kb/transfer_internal.h"
#include "tests/fuzz/fuzz.h"

#define START_BYTES 10u  // magic, version, checksum
#define RENEW_AFTER 500u // inputs that a store takes

// ---------------------------------------------------------------------------------------------- the service

static rag_store *store;
static rag_jobs *jobs;
static rag_kbs *kbs;
static char dir[300];
static unsigned used;

static void open_store(void) {
  rag_error err = {0};
  rag_store_options options = rag_store_options_default();
  rag_kbs_options kbs_options = rag_kbs_options_default();
  options.sync = false;
  options.cache_bytes = options.write_buffer_bytes = 8u << 20;
  kbs_options.object_cache_bytes = 1u << 20;
  rag_log_setup(2, RAG_LOG_ERROR, RAG_LOG_TEXT);
  snprintf(dir, sizeof dir, "%s/store", fuzz_dir());
  REQUIRE_OK(rag_store_open(dir, &options, &store, &err));
  REQUIRE_OK(rag_jobs_open(store, 0, &jobs, &err));
  REQUIRE_OK(rag_kbs_open(store, jobs, &kbs_options, &kbs, &err));
}

static void close_store(void) {
  rag_error err = {0};
  rag_jobs_close(jobs);
  rag_kbs_close(kbs);
  rag_store_close(store);
  store = NULL;
  REQUIRE_OK(rag_os_remove_tree(dir, &err));
}

static void end(void) {
  if (store != NULL) close_store();
  fuzz_dir_remove();
}

// ---------------------------------------------------------------------------------------------- the format

static const char *const row_shapes[RAG_KB__ROW_TYPES] = {
    [RAG_KB__ROW_CONTENT] = "vb",   [RAG_KB__ROW_CHUNK] = "vb",   [RAG_KB__ROW_VECTOR] = "vb",
    [RAG_KB__ROW_REVISION] = "vbb", [RAG_KB__ROW_COMMIT] = "vbb", [RAG_KB__ROW_CHECKPOINT] = "vb",
    [RAG_KB__ROW_REF] = "1bb",      [RAG_KB__ROW_LOG] = "bvv"}; // varint, bytes, one byte

typedef struct field {
  char shape;
  size_t start, end; // in the payload; of bytes: without their length
  size_t outer;      // where the length begins
} field;
typedef struct row {
  unsigned type;
  size_t start, end;
  unsigned count;
  field fields[3];
} row;

// The row at r, whose type is read too. False: there is none that can be read.
static bool read_row(rag_reader *r, bool header, row *out) {
  *out = (row){.start = r->offset};
  const char *shape = "bb";
  if (rag_reader_left(r) == 0) return false;
  if (!header) {
    out->type = rag_read_u8(r);
    shape = out->type > 0 && out->type < RAG_KB__ROW_TYPES ? row_shapes[out->type] : NULL;
  }
  for (; shape != NULL && *shape != '\0'; shape++) {
    field *f = &out->fields[out->count++];
    *f = (field){.shape = *shape, .start = r->offset, .outer = r->offset};
    if (*shape == 'v') (void)rag_read_varint(r);
    else if (*shape == '1') (void)rag_read_u8(r);
    else {
      rag_slice bytes = rag_read_bytes(r);
      f->start = r->offset - bytes.size;
    }
    f->end = r->offset;
  }
  out->end = r->offset;
  return shape != NULL && !r->bad;
}

typedef struct frame {
  unsigned type;
  rag_slice payload;
} frame;

// The frame at *at of a stream; a size that runs past the end is cut. False: the end.
static bool read_frame(rag_slice stream, size_t *at, frame *out) {
  if (stream.size - *at < 5) return false;
  const unsigned char *head = (const unsigned char *)stream.data + *at;
  size_t size = (size_t)head[1] | (size_t)head[2] << 8 | (size_t)head[3] << 16 | (size_t)head[4] << 24;
  size = RAG_MIN(size, stream.size - *at - 5);
  *out = (frame){head[0], rag_slice_of(head + 5, size)};
  *at = RAG_MIN(*at + 5 + size + 4, stream.size);
  return true;
}

static void put_frame(rag_buf *out, unsigned type, rag_slice payload) {
  size_t start = out->size;
  rag_buf_append_u8(out, (uint8_t)type);
  rag_buf_append_u32le(out, (uint32_t)payload.size);
  rag_buf_append(out, payload.data, payload.size);
  if (!out->failed) rag_buf_append_u32le(out, rag_crc32c(0, out->data + start, out->size - start));
}

// ---------------------------------------------------------------------------------------------- sealing

static void seal_bitmaps(char *value, size_t size, unsigned numbers) {
  rag_reader r = rag_reader_of(rag_slice_of(value, size));
  (void)rag_read_u8(&r);
  for (unsigned i = 0; i < numbers; i++) (void)rag_read_varint(&r);
  while (rag_reader_left(&r) > 0) {
    rag_slice image = rag_read_bytes(&r);
    if (image.size >= 4) fuzz_put_u32le(value + (image.data - value), rag_crc32c(0, image.data + 4, image.size - 4));
  }
}

static void seal_rows(char *payload, size_t size, uint64_t counts[RAG_KB__ROW_TYPES]) {
  rag_reader r = rag_reader_of(rag_slice_of(payload, size));
  for (row found; read_row(&r, false, &found);) {
    const field *f = &found.fields[found.count - 1];
    counts[found.type]++;
    if (found.type == RAG_KB__ROW_COMMIT) seal_bitmaps(payload + f->start, f->end - f->start, 2);
    if (found.type == RAG_KB__ROW_CHECKPOINT) seal_bitmaps(payload + f->start, f->end - f->start, 0);
  }
}

// The stream with every checksum, count and digest as it must be; what cannot be followed stays as it is.
static void seal(rag_slice stream, rag_buf *out) {
  uint64_t counts[RAG_KB__ROW_TYPES] = {0};
  size_t at = START_BYTES;
  frame f;
  if (stream.size < START_BYTES) {
    rag_buf_append(out, stream.data, stream.size);
    return;
  }
  rag_buf_append(out, stream.data, START_BYTES - 4);
  rag_buf_append_u32le(out, rag_crc32c(0, stream.data, START_BYTES - 4));
  while (read_frame(stream, &at, &f)) {
    rag_buf payload = {0};
    rag_buf_append(&payload, f.payload.data, f.payload.size);
    if (f.type == RAG_KB__FRAME_TRAILER) {
      rag_digest digest = rag_digest_of(out->data, out->size);
      rag_buf_clear(&payload);
      for (int type = 1; type < RAG_KB__ROW_TYPES; type++) rag_buf_append_varint(&payload, counts[type]);
      rag_buf_append(&payload, digest.bytes, sizeof digest.bytes);
    } else if (f.type != RAG_KB__FRAME_HEADER && payload.size > 0) {
      seal_rows(payload.data, payload.size, counts);
    }
    put_frame(out, f.type, rag_buf_slice(&payload));
    rag_buf_free(&payload);
  }
  rag_buf_append(out, stream.data + at, stream.size - at);
}

// ---------------------------------------------------------------------------------------------- mutating

static uint64_t random_state;

static size_t below(size_t n) {
  random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return n > 0 ? (size_t)(random_state >> 33) % n : 0;
}

#define ROWS_MAX 256u
#define FIELD_BYTES_MAX 4096u

static void put_mutated_bytes(rag_buf *out, rag_slice bytes) {
  uint8_t part[FIELD_BYTES_MAX];
  size_t size = RAG_MIN(bytes.size, sizeof part / 2);
  if (size > 0) memcpy(part, bytes.data, size);
  size = LLVMFuzzerMutate(part, size, sizeof part);
  rag_buf_append_varint(out, size);
  rag_buf_append(out, part, size);
}

static void put_mutated_row(rag_buf *out, rag_slice payload, const row *from, bool header) {
  unsigned which = (unsigned)below(from->count);
  if (!header) rag_buf_append_u8(out, (uint8_t)from->type);
  for (unsigned i = 0; i < from->count; i++) {
    const field *f = &from->fields[i];
    rag_slice bytes = rag_slice_of(payload.data + f->start, f->end - f->start);
    if (i != which) {
      rag_buf_append(out, payload.data + f->outer, f->end - f->outer);
    } else if (f->shape == 'b') {
      put_mutated_bytes(out, bytes);
    } else if (f->shape == '1') {
      rag_buf_append_u8(out, below(2) ? 'b' : 't');
    } else {
      rag_reader r = rag_reader_of(bytes);
      uint64_t v = rag_read_varint(&r);
      uint64_t const choices[] = {v + 1, v - 1, 0, 1, below(20), UINT32_MAX, v + below(1000)};
      rag_buf_append_varint(out, choices[below(RAG_COUNT_OF(choices))]);
    }
  }
}

static void put_mutated_payload(rag_buf *out, rag_slice payload, bool header) {
  static row rows[ROWS_MAX];
  size_t count = 0;
  rag_reader r = rag_reader_of(payload);
  while (count < ROWS_MAX && read_row(&r, header, &rows[count])) count++;
  if (count == 0) {
    rag_buf_append(out, payload.data, payload.size);
    return;
  }
  size_t chosen = below(count), other = below(count), how = below(8);
  for (size_t i = 0; i < count; i++) {
    const row *from = &rows[how == 0 && i == chosen ? other : how == 0 && i == other ? chosen : i];
    if (how == 1 && i == chosen) continue;
    if (how > 2 && i == chosen) put_mutated_row(out, payload, from, header);
    else rag_buf_append(out, payload.data + from->start, from->end - from->start);
    if (how == 2 && i == chosen) rag_buf_append(out, payload.data + from->start, from->end - from->start);
  }
  size_t done = rows[count - 1].end;
  rag_buf_append(out, payload.data + done, payload.size - done);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t size_max, unsigned seed) {
  random_state = seed;
  (void)below(1);
  if (size < 1 + START_BYTES || below(8) == 0) return LLVMFuzzerMutate(data, size, size_max);
  rag_slice stream = rag_slice_of(data + 1, size - 1);
  size_t at = START_BYTES, frames = 0;
  frame f;
  while (read_frame(stream, &at, &f)) frames++;
  size_t chosen = below(frames);
  rag_buf out = {0};
  rag_buf_append_u8(&out, (uint8_t)(data[0] | 1));
  rag_buf_append(&out, stream.data, START_BYTES);
  at = START_BYTES;
  for (size_t i = 0; read_frame(stream, &at, &f); i++) {
    rag_buf payload = {0};
    bool header = f.type == RAG_KB__FRAME_HEADER;
    if (i == chosen && f.type != RAG_KB__FRAME_TRAILER) put_mutated_payload(&payload, f.payload, header);
    else rag_buf_append(&payload, f.payload.data, f.payload.size);
    put_frame(&out, f.type, rag_buf_slice(&payload));
    rag_buf_free(&payload);
  }
  if (!out.failed && out.size <= size_max) memcpy(data, out.data, size = out.size);
  rag_buf_free(&out);
  return size;
}

// ---------------------------------------------------------------------------------------------- the properties

typedef struct source {
  rag_slice rest;
  size_t step;
} source;

static rag_status give(void *ctx, void *data, size_t size, size_t *out_size, rag_error *err) {
  source *s = ctx;
  RAG_UNUSED(err);
  size = RAG_MIN(RAG_MIN(size, s->step), s->rest.size);
  if (size > 0) memcpy(data, s->rest.data, size);
  s->rest = rag_slice_of(s->rest.data + size, s->rest.size - size);
  *out_size = size;
  return RAG_OK;
}

static rag_status collect(void *ctx, const void *data, size_t size, rag_error *err) {
  RAG_UNUSED(err);
  rag_buf_append(ctx, data, size);
  return RAG_OK;
}

static bool text_good(rag_slice s) {
  return s.size == 0 || rag_utf8_valid(s.data, s.size);
}

static void read_documents(rag_kb *kb) {
  rag_error err = {0};
  rag_document *documents = NULL;
  uint32_t count = 0, next = 0;
  uint64_t commit = 0;
  REQUIRE_OK(rag_kb_documents(kb, rag_slice_str(""), NULL, 0, 100, &documents, &count, &next, &commit, &err));
  for (uint32_t i = 0; i < count; i++) {
    rag_document *d = &documents[i];
    rag_span *spans = NULL;
    uint32_t span_count = 0;
    REQUIRE(text_good(d->id) && text_good(d->text) && text_good(d->title) && text_good(d->metadata));
    REQUIRE(text_good(d->source_uri) && text_good(d->language));
    REQUIRE_OK(rag_kb_document_chunks(kb, d, &spans, &span_count, &err));
    for (uint32_t s = 0; s < span_count; s++) {
      REQUIRE(spans[s].start <= spans[s].end && spans[s].end <= d->text.size);
      if (d->text.size > 0 && spans[s].end > 0)
        REQUIRE(text_good(rag_slice_of(d->text.data + spans[s].start, spans[s].end - spans[s].start)));
    }
    rag_free(spans);
    rag_document again;
    REQUIRE_OK(rag_kb_document_get(kb, rag_slice_str(""), d->id, &again, &err));
    REQUIRE(again.revision == d->revision);
    rag_document_free(&again);
    rag_document_free(d);
  }
  rag_free(documents);
}

static void read_history(rag_kb *kb) {
  rag_error err = {0};
  rag_commit_info *log = NULL;
  rag_ref_info *refs = NULL;
  uint32_t count = 0;
  uint64_t next = 0;
  REQUIRE_OK(rag_kb_branches(kb, rag_slice_str(""), 10, &refs, &count, &err));
  REQUIRE(count >= 1);
  rag_free(refs);
  rag_status status = rag_kb_log(kb, rag_slice_str(""), 0, 50, &log, &count, &next, &err);
  if (status == RAG_OK) {
    for (uint32_t i = 0; i < count; i++) {
      REQUIRE(rag_utf8_valid(log[i].message, strlen(log[i].message)));
      REQUIRE(strcmp(rag_commit_kind_name(log[i].kind), "unknown") != 0);
      rag_commit_info_free(&log[i]);
    }
    rag_free(log);
  } else {
    fuzz_require_said(&err, status);
  }
}

static void search(rag_kb *kb) {
  rag_error err = {0};
  rag_kb_info info;
  rag_search_result result;
  REQUIRE_OK(rag_kb_describe(kb, &info, &err));
  float *vector = calloc(info.config.dimension, sizeof *vector);
  REQUIRE(vector != NULL);
  vector[0] = 1;
  rag_search searches[] = {
      {.query = rag_slice_str("wine text one \"two three\""), .mode = RAG_SEARCH_LEXICAL, .k = 10},
      {.vector = vector, .vector_dimension = info.config.dimension, .mode = RAG_SEARCH_VECTOR, .k = 10},
  };
  for (size_t i = 0; i < RAG_COUNT_OF(searches); i++) {
    searches[i].want_text = searches[i].want_metadata = searches[i].want_highlights = searches[i].want_vector = true;
    rag_status status = rag_kb_search(kb, &searches[i], &result, &err);
    if (status != RAG_OK) {
      REQUIRE(status == RAG_INVALID_ARGUMENT || status == RAG_FAILED_PRECONDITION);
      fuzz_require_said(&err, status);
      continue;
    }
    for (uint32_t h = 0; h < result.count; h++) {
      const rag_hit *hit = &result.hits[h];
      REQUIRE(text_good(hit->document_id) && text_good(hit->text) && text_good(hit->title));
      REQUIRE(text_good(hit->metadata) && text_good(hit->chunk_metadata) && text_good(hit->source_uri));
      for (uint32_t m = 0; m < hit->highlight_count; m++) {
        rag_span mark = hit->highlights[m];
        REQUIRE(mark.start < mark.end && mark.end <= hit->text.size);
        REQUIRE(text_good(rag_slice_of(hit->text.data + mark.start, mark.end - mark.start)));
      }
    }
    rag_search_result_free(&result);
  }
  free(vector);
  rag_kb_info_free(&info);
}

static void show(void *ctx, rag_check_level level, const char *kb, const char *text) {
  RAG_UNUSED(ctx);
  if (level == RAG_CHECK_ERROR) fprintf(stderr, "check: %s: %s\n", kb, text);
}

static void require_good(rag_kb *kb, const char *name) {
  rag_error err = {0};
  rag_buf exported = {0};
  rag_kb *copy = NULL;
  uint64_t job;
  rag_check_result checked;
  REQUIRE_OK(rag_kbs_check(kbs, &(rag_check_options){.report = show}, &checked, &err));
  REQUIRE(checked.errors == 0);
  read_documents(kb);
  read_history(kb);
  search(kb);
  REQUIRE_OK(rag_kb_export(kb, collect, &exported, &err));
  source s = {rag_buf_slice(&exported), SIZE_MAX};
  REQUIRE_OK(rag_kbs_import(kbs, rag_slice_str("copy"), give, &s, &copy, &err));
  rag_ref_drop(copy);
  rag_buf_free(&exported);
  REQUIRE_OK(rag_kbs_delete(kbs, rag_slice_str("copy"), &job, &err));
  REQUIRE_OK(rag_jobs_run_foreground(jobs, NULL, NULL, &err));
  REQUIRE_OK(rag_kbs_delete(kbs, rag_slice_str(name), &job, &err));
  REQUIRE_OK(rag_jobs_run_foreground(jobs, NULL, NULL, &err));
}

static void require_nothing_left(void) {
  rag_error err = {0};
  rag_kb **list = NULL;
  uint32_t count = 0;
  rag_store_iter *it = NULL;
  REQUIRE_OK(rag_kbs_list(kbs, rag_slice_str(""), 10, &list, &count, &err));
  REQUIRE(count == 0);
  rag_free(list);
  static const rag_cf families[] = {RAG_CF_META, RAG_CF_CONTENT, RAG_CF_REVISION, RAG_CF_COMMIT};
  for (size_t i = 0; i < RAG_COUNT_OF(families); i++) { // META: marks of imports that did not end
    bool meta = families[i] == RAG_CF_META;
    rag_slice from = meta ? rag_slice_str("P") : rag_slice_str(""), to = meta ? rag_slice_str("Q") : from;
    REQUIRE_OK(rag_store_iter_open(store, NULL, families[i], from, to, false, &it, &err));
    REQUIRE(!rag_store_iter_next(it));
    rag_store_iter_close(it);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const size_t steps[] = {SIZE_MAX, 1, 7, 1000};
  if (size == 0) return 0;
  static bool begun;
  if (store != NULL && used++ >= RENEW_AFTER) close_store();
  if (store == NULL) {
    open_store();
    used = 0;
    if (!begun) begun = atexit(end) == 0; // now: before what RocksDB has begun is ended
  }
  rag_buf sealed = {0};
  if (data[0] & 1) seal(rag_slice_of(data + 1, size - 1), &sealed);
  else rag_buf_append(&sealed, data + 1, size - 1);
  source s = {rag_buf_slice(&sealed), steps[data[0] >> 1 & 3]};
  rag_kb *kb = NULL;
  rag_error err = {0};
  rag_status status = rag_kbs_import(kbs, rag_slice_str("it"), give, &s, &kb, &err);
  if (status == RAG_OK) {
    REQUIRE(data[0] & 1 || s.rest.size == 0);
    require_good(kb, "it");
    rag_ref_drop(kb);
  } else {
    REQUIRE(status != RAG_INTERNAL && status != RAG_UNKNOWN && status != RAG_UNAVAILABLE && kb == NULL);
    fuzz_require_said(&err, status);
  }
  require_nothing_left();
  rag_buf_free(&sealed);
  return 0;
}
