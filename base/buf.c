// Growable byte buffer, and the bounds-checked reader of what it wrote.
//
// Formats: integers big-endian for keys (so that memcmp order is number order), little-endian for values; varints are
// LEB128 of at most 10 bytes in their shortest form. The reader refuses longer forms: one value has one image.
//
// Threads: one at a time, as for any value.
#include "base/base.h"

#include <stdio.h>

#define BUF_CAPACITY_FIRST ((size_t)64)
#define VARINT_BYTES_MAX 10

void rag_buf_free(rag_buf *buf) {
  if (!buf) return;
  rag_free(buf->data);
  *buf = (rag_buf){0};
}

void rag_buf_clear(rag_buf *buf) {
  buf->size = 0;
  buf->failed = false;
}

static bool grow(rag_buf *buf, size_t extra) {
  size_t need;
  if (__builtin_add_overflow(buf->size, extra, &need)) goto fail;
  size_t capacity = RAG_MAX(buf->capacity, BUF_CAPACITY_FIRST / 2);
  while (capacity < need) {
    if (__builtin_mul_overflow(capacity, (size_t)2, &capacity)) capacity = need;
  }
  char *data = rag_realloc(buf->data, capacity);
  if (!data) goto fail;
  buf->data = data;
  buf->capacity = capacity;
  return true;
fail:
  buf->failed = true;
  return false;
}

// Room for `extra` more bytes, or false (and the buffer has failed).
static inline bool ensure(rag_buf *buf, size_t extra) {
  if (buf->failed) return false;
  if (buf->capacity - buf->size >= extra && buf->data) return true;
  return grow(buf, extra);
}

void rag_buf_reserve(rag_buf *buf, size_t extra) {
  ensure(buf, extra);
}

void rag_buf_append(rag_buf *buf, const void *data, size_t size) {
  if (size == 0 || !ensure(buf, size)) return;
  memcpy(buf->data + buf->size, data, size);
  buf->size += size;
}

void rag_buf_append_str(rag_buf *buf, const char *s) {
  rag_buf_append(buf, s, strlen(s));
}

void rag_buf_append_char(rag_buf *buf, char c) {
  rag_buf_append(buf, &c, 1);
}

void rag_buf_printf(rag_buf *buf, const char *fmt, ...) {
  if (!ensure(buf, 1)) return;
  va_list args, again;
  va_start(args, fmt);
  va_copy(again, args);
  // First try in the room that is there; vsnprintf wants one byte for its NUL, which does not count as content.
  int wanted = vsnprintf(buf->data + buf->size, buf->capacity - buf->size, fmt, args);
  va_end(args);
  if (wanted < 0) {
    buf->failed = true;
  } else if ((size_t)wanted < buf->capacity - buf->size) {
    buf->size += (size_t)wanted;
  } else if (ensure(buf, (size_t)wanted + 1)) {
    vsnprintf(buf->data + buf->size, buf->capacity - buf->size, fmt, again);
    buf->size += (size_t)wanted;
  }
  va_end(again);
}

void rag_buf_append_u8(rag_buf *buf, uint8_t v) {
  rag_buf_append(buf, &v, sizeof(v));
}

static void append_be(rag_buf *buf, uint64_t v, size_t size) {
  unsigned char bytes[8];
  for (size_t i = 0; i < size; i++) bytes[i] = (unsigned char)(v >> (8 * (size - 1 - i)));
  rag_buf_append(buf, bytes, size);
}

static void append_le(rag_buf *buf, uint64_t v, size_t size) {
  unsigned char bytes[8];
  for (size_t i = 0; i < size; i++) bytes[i] = (unsigned char)(v >> (8 * i));
  rag_buf_append(buf, bytes, size);
}

void rag_buf_append_u32be(rag_buf *buf, uint32_t v) {
  append_be(buf, v, 4);
}
void rag_buf_append_u64be(rag_buf *buf, uint64_t v) {
  append_be(buf, v, 8);
}
void rag_buf_append_u32le(rag_buf *buf, uint32_t v) {
  append_le(buf, v, 4);
}
void rag_buf_append_u64le(rag_buf *buf, uint64_t v) {
  append_le(buf, v, 8);
}

void rag_buf_append_varint(rag_buf *buf, uint64_t v) {
  unsigned char bytes[VARINT_BYTES_MAX];
  size_t size = 0;
  while (v >= 0x80) {
    bytes[size++] = (unsigned char)(v | 0x80);
    v >>= 7;
  }
  bytes[size++] = (unsigned char)v;
  rag_buf_append(buf, bytes, size);
}

void rag_buf_append_bytes(rag_buf *buf, rag_slice s) {
  rag_buf_append_varint(buf, s.size);
  rag_buf_append(buf, s.data, s.size);
}

rag_status rag_buf_check(const rag_buf *buf, rag_error *err) {
  return buf->failed ? rag_fail(err, RAG_RESOURCE_EXHAUSTED, "out of memory while writing after %zu bytes", buf->size)
                     : RAG_OK;
}

// ------------------------------------------------------------------------------------------------------------- reader

// The next `size` bytes, or NULL (and the reader is bad).
static const unsigned char *take(rag_reader *r, size_t size) {
  if (r->bad || r->size - r->offset < size) {
    r->bad = true;
    return NULL;
  }
  const unsigned char *at = r->data + r->offset;
  r->offset += size;
  return at;
}

static uint64_t read_be(rag_reader *r, size_t size) {
  const unsigned char *at = take(r, size);
  uint64_t v = 0;
  for (size_t i = 0; at && i < size; i++) v = v << 8 | at[i];
  return v;
}

static uint64_t read_le(rag_reader *r, size_t size) {
  const unsigned char *at = take(r, size);
  uint64_t v = 0;
  for (size_t i = 0; at && i < size; i++) v |= (uint64_t)at[i] << (8 * i);
  return v;
}

uint8_t rag_read_u8(rag_reader *r) {
  return (uint8_t)read_le(r, 1);
}
uint32_t rag_read_u32be(rag_reader *r) {
  return (uint32_t)read_be(r, 4);
}
uint64_t rag_read_u64be(rag_reader *r) {
  return read_be(r, 8);
}
uint32_t rag_read_u32le(rag_reader *r) {
  return (uint32_t)read_le(r, 4);
}
uint64_t rag_read_u64le(rag_reader *r) {
  return read_le(r, 8);
}

uint64_t rag_read_varint(rag_reader *r) {
  uint64_t v = 0;
  for (unsigned i = 0; i < VARINT_BYTES_MAX; i++) {
    const unsigned char *at = take(r, 1);
    if (!at) return 0;
    unsigned char byte = *at;
    bool last = (byte & 0x80) == 0;
    if (i == VARINT_BYTES_MAX - 1 && byte > 1) break; // over 64 bits
    if (i > 0 && last && byte == 0) break;            // not the shortest form
    v |= (uint64_t)(byte & 0x7F) << (7 * i);
    if (last) return v;
  }
  r->bad = true;
  return 0;
}

rag_slice rag_read_bytes(rag_reader *r) {
  uint64_t size = rag_read_varint(r);
  if (size > rag_reader_left(r)) { // also keeps a 64-bit length out of a narrower size_t
    r->bad = true;
    return (rag_slice){0};
  }
  return rag_read_raw(r, (size_t)size);
}

rag_slice rag_read_raw(rag_reader *r, size_t size) {
  const unsigned char *at = take(r, size);
  return at ? rag_slice_of(at, size) : (rag_slice){0};
}
