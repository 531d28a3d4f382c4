// What the handlers share: texts in the arena, limits, page tokens, the answer of a commit.
#include "api/dispatch_internal.h"

#include <inttypes.h>
#include <stdio.h>

char *rag_api__text(rag_call *call, rag_slice s) {
  static char none[1] = "";
  if (s.size == 0) return none;
  char *copy = rag_arena_strndup(call->arena, s.data, s.size);
  if (copy) return copy;
  call->out_of_memory = true;
  return none;
}

char *rag_api__text_str(rag_call *call, const char *s) {
  return rag_api__text(call, rag_slice_str(s ? s : ""));
}

char *rag_api__commit_text(rag_call *call, uint64_t commit) {
  char text[24];
  int size = snprintf(text, sizeof(text), "c%" PRIu64, commit);
  return rag_api__text(call, rag_slice_of(text, (size_t)size));
}

rag_status rag_api__new_array(rag_call *call, size_t count, size_t size, void *out, rag_error *err) {
  void *array = rag_arena_calloc(call->arena, count ? count : 1, size);
  if (!array) return rag_fail_no_memory(err, count * size);
  memcpy(out, &array, sizeof(array));
  return RAG_OK;
}

rag_status rag_api__limit(bool given, uint32_t limit, uint32_t *out, rag_error *err) {
  if (given && (limit == 0 || limit > RAG_LIST_LIMIT_MAX))
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "limit", "limit: %u is outside 1 to %u; without it, it is %u",
                          limit, RAG_LIST_LIMIT_MAX, API_LIMIT_DEFAULT);
  *out = given ? limit : API_LIMIT_DEFAULT;
  return RAG_OK;
}

rag_write rag_api__write_of(const rag_call *call, const char *branch, const char *message, const char *author,
                            const char *expect_parent) {
  return (rag_write){
      .branch = rag_slice_str(branch),
      .message = rag_slice_str(message),
      .author = rag_slice_str(author),
      .expect_parent = rag_slice_str(expect_parent),
      .idempotency_key = call->idempotency_key,
      .request_digest = call->request_digest,
  };
}

rag_status rag_api__commit_result(rag_call *call, const rag_write_result *result, ProtobufCMessage **response,
                                  rag_error *err) {
  Ragd__V1__CommitResult *out = API_NEW(call, commit_result);
  if (!out) return rag_fail_no_memory(err, sizeof(*out));
  out->commit = rag_api__commit_text(call, result->commit);
  out->committed = result->committed;
  out->replayed = result->replayed;
  out->added = result->added;
  out->changed = result->changed;
  out->unchanged = result->unchanged;
  out->removed = result->removed;
  out->missing = result->missing;
  out->chunks_added = result->chunks_added;
  out->chunks_embedded = result->chunks_embedded;
  out->chunks_reused = result->chunks_reused;
  *response = &out->base;
  return RAG_OK;
}

void rag_api__conflict_details(rag_call *call, const rag_strings *conflicts) {
  if (conflicts->count == 0) return;
  rag_buf *out = call->details;
  rag_buf_append_str(out, "{\"conflicts\":[");
  for (size_t i = 0; i < RAG_MIN(conflicts->count, (size_t)API_CONFLICTS_SHOWN_MAX); i++) {
    if (i) rag_buf_append_char(out, ',');
    rag_json_put_string(out, rag_slice_str(conflicts->items[i]));
  }
  rag_buf_append_str(out, "],\"total\":");
  rag_json_put_uint(out, conflicts->count);
  rag_buf_append_char(out, '}');
}

rag_status rag_api__commit_parse(const char *text, const char *field, uint64_t *out, rag_error *err) {
  uint64_t commit = 0;
  const char *at = text + 1;
  bool good = text[0] == 'c' && *at >= '1' && *at <= '9';
  for (; good && *at; at++)
    good = *at >= '0' && *at <= '9' && !__builtin_mul_overflow(commit, (uint64_t)10, &commit) &&
           !__builtin_add_overflow(commit, (uint64_t)(*at - '0'), &commit);
  if (!good)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, field, "%s: '%.64s' is no commit id; they look like c42", field,
                          text);
  *out = commit;
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- page tokens

// base64url of: u32le CRC32C of (kind, kb, position), then the position.
#define TOKEN_POSITION_MAX 1024u
#define TOKEN_CRC_BYTES 4u
static const char token_letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static uint32_t token_crc(const char *kind, const char *kb, rag_slice position) {
  uint32_t crc = rag_crc32c(0, kind, strlen(kind) + 1);
  crc = rag_crc32c(crc, kb, strlen(kb) + 1);
  return rag_crc32c(crc, position.data, position.size);
}

char *rag_api__page_token(rag_call *call, const char *kind, const char *kb, rag_slice position) {
  unsigned char bytes[TOKEN_CRC_BYTES + TOKEN_POSITION_MAX];
  char text[(sizeof(bytes) + 2) / 3 * 4];
  RAG_ASSERT(position.size <= TOKEN_POSITION_MAX); // names and numbers
  uint32_t crc = token_crc(kind, kb, position);
  for (size_t i = 0; i < TOKEN_CRC_BYTES; i++) bytes[i] = (unsigned char)(crc >> (8 * i));
  memcpy(bytes + TOKEN_CRC_BYTES, position.data, position.size);
  size_t size = TOKEN_CRC_BYTES + position.size, out = 0;
  for (size_t at = 0; at < size; at += 3) {
    size_t left = RAG_MIN(size - at, (size_t)3);
    uint32_t group =
        (uint32_t)bytes[at] << 16 | (left > 1 ? (uint32_t)bytes[at + 1] << 8 : 0u) | (left > 2 ? bytes[at + 2] : 0u);
    for (size_t i = 0; i <= left; i++) text[out++] = token_letters[group >> (18 - 6 * i) & 63];
  }
  return rag_api__text(call, rag_slice_of(text, out));
}

rag_status rag_api__page_position(rag_call *call, const char *kind, const char *kb, const char *token, rag_slice *out,
                                  rag_error *err) {
  *out = rag_slice_of("", 0);
  size_t size = strlen(token);
  if (size == 0) return RAG_OK;
  if (size > (TOKEN_CRC_BYTES + TOKEN_POSITION_MAX) * 4 / 3 + 4) goto bad;
  unsigned char *bytes = rag_arena_alloc(call->arena, size);
  if (!bytes) return rag_fail_no_memory(err, size);
  size_t count = 0;
  uint32_t group = 0;
  for (size_t i = 0; i < size; i++) {
    const char *letter = memchr(token_letters, token[i], sizeof(token_letters) - 1);
    if (!letter) goto bad;
    group = group << 6 | (uint32_t)(letter - token_letters);
    if (i % 4) bytes[count++] = (unsigned char)(group >> (6 - 2 * (i % 4)));
  }
  if (size % 4 == 1 || count < TOKEN_CRC_BYTES) goto bad;
  rag_slice position = rag_slice_of(bytes + TOKEN_CRC_BYTES, count - TOKEN_CRC_BYTES);
  uint32_t crc = 0;
  for (size_t i = 0; i < TOKEN_CRC_BYTES; i++) crc |= (uint32_t)bytes[i] << (8 * i);
  if (crc != token_crc(kind, kb, position)) goto bad;
  *out = position;
  return RAG_OK;
bad:
  return rag_fail_field(err, RAG_INVALID_ARGUMENT, "page_token",
                        "page_token: not one that this list has given; take next_page_token of the answer before, with "
                        "the same parameters, or leave it out to start again");
}
