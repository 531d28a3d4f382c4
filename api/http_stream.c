// Streams: bodies and answers of any length, through bounded pipes between the network thread and a worker.
//
//   network thread -- push --> [in: ring] --------------------- read --> worker (rag_api_stream)
//   network thread <-- pull -- [out: ring, then spill file] <-- write -- worker
//
// Invariants
//  1. The network thread never waits: where it cannot go on (in full, out empty, no answer yet) it suspends the
//     connection under the lock and notes why in `waits`; the worker's next step that ends the reason resumes it, once.
//  2. libmicrohttpd cannot begin an answer before the upload is complete. So until then a full `out` does not stop the
//     worker: the rest goes to an unlinked file in the data directory, up to HTTP_SPILL_BYTES_MAX. Otherwise a client
//     that sends everything before it reads, and a worker that writes progress lines, would wait for each other.
//  3. While the file holds unread bytes nothing is added to the ring, and the ring is read first: order is kept.
//  4. `head` is what the worker's response was at its first write, copied: the worker goes on writing to its own.
//  5. The connection is NULL after detach, and everything that the worker touches lives in the stream; the last of the
//     two references frees it.
//
// Threads: the fields from `connection` on are guarded by `lock`. libmicrohttpd's resume is called with the lock held
// (it takes one lock of its own and calls nobody), as the connection must not be detached in between.
//
// Left to others: who may stream (the dispatcher), slow clients (http_server.c).
#include "api/http_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

typedef struct ring {
  char *data; // HTTP_PIPE_BYTES
  size_t start, size;
} ring;

typedef enum wait_reason {
  WAIT_NONE = 0,
  WAIT_ROOM,   // in is full
  WAIT_ANSWER, // the upload is complete and there is no answer yet
  WAIT_DATA,   // the answer has begun and out is empty
} wait_reason;

struct http_stream {
  _Atomic unsigned references; // atomic: acq_rel, so that the last one sees every write
  rag_server *server;
  rag_arena *arena;         // the worker's
  rag_api_request request;  // immutable after start; strings in `arena`
  rag_api_response working; // the worker's
  pthread_mutex_t lock;
  pthread_cond_t changed; // for the worker: in has data or is complete, out has room, cancelled
  http_connection *connection;
  wait_reason waits;
  ring in, out;
  int spill_fd; // -1: none
  uint64_t spill_read, spill_written;
  rag_api_response head;
  bool upload_complete, begun, done, failed, cancelled;
};

static void ring_put(ring *r, const char *data, size_t size) {
  size_t end = (r->start + r->size) % HTTP_PIPE_BYTES;
  size_t first = RAG_MIN(size, HTTP_PIPE_BYTES - end);
  memcpy(r->data + end, data, first);
  memcpy(r->data, data + first, size - first);
  r->size += size;
}

static void ring_take(ring *r, char *out, size_t size) {
  size_t first = RAG_MIN(size, HTTP_PIPE_BYTES - r->start);
  memcpy(out, r->data + r->start, first);
  memcpy(out + first, r->data, size - first);
  r->start = (r->start + size) % HTTP_PIPE_BYTES;
  r->size -= size;
}

static size_t ring_room(const ring *r) {
  return HTTP_PIPE_BYTES - r->size;
}

static void stream_drop(http_stream *stream) {
  if (!stream || atomic_fetch_sub_explicit(&stream->references, 1, memory_order_acq_rel) != 1) return;
  if (stream->spill_fd >= 0) close(stream->spill_fd);
  pthread_cond_destroy(&stream->changed);
  pthread_mutex_destroy(&stream->lock);
  rag_free(stream->in.data);
  rag_free(stream->out.data);
  rag_arena_destroy(stream->arena);
  rag_free(stream);
}

// With the lock held.
static void wait_for(http_stream *stream, wait_reason reason) {
  stream->waits = reason;
  http_suspend(stream->connection);
}

static void resume_if(http_stream *stream, bool reached) {
  if (stream->waits == WAIT_NONE || !reached || !stream->connection) return;
  stream->waits = WAIT_NONE;
  http_resume(stream->connection);
}

// ---------------------------------------------------------------------------------------------- the worker's side

static rag_status stream_read(void *ctx, void *data, size_t size, size_t *out_size, rag_error *err) {
  http_stream *stream = ctx;
  rag_status status = RAG_OK;
  pthread_mutex_lock(&stream->lock);
  while (stream->in.size == 0 && !stream->upload_complete && !stream->cancelled)
    pthread_cond_wait(&stream->changed, &stream->lock);
  if (stream->cancelled) {
    status = rag_fail(err, RAG_CANCELLED, "the client has left, or the server stops");
  } else {
    size_t taken = RAG_MIN(size, stream->in.size);
    ring_take(&stream->in, data, taken);
    *out_size = taken;
    // Half empty, not a byte: each resume costs the network thread a round.
    resume_if(stream, stream->waits == WAIT_ROOM && stream->in.size <= HTTP_PIPE_BYTES / 2);
  }
  pthread_mutex_unlock(&stream->lock);
  return status;
}

static int spill_open(const char *data_dir) {
  int fd = open(data_dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (fd >= 0) return fd;
  // File systems without O_TMPFILE.
  size_t size = strlen(data_dir) + sizeof("/.spill-XXXXXX");
  char *path = rag_alloc(size);
  if (!path) return -1;
  snprintf(path, size, "%s/.spill-XXXXXX", data_dir);
  fd = mkostemp(path, O_CLOEXEC);
  if (fd >= 0) unlink(path);
  rag_free(path);
  return fd;
}

// With the lock held: the network thread waits for one write to the page cache at most.
static rag_status spill(http_stream *stream, const char *data, size_t size, rag_error *err) {
  if (size > HTTP_SPILL_BYTES_MAX - stream->spill_written)
    return rag_fail(err, RAG_RESOURCE_EXHAUSTED,
                    "the answer passed %llu bytes before the body was complete; send less at once",
                    (unsigned long long)HTTP_SPILL_BYTES_MAX);
  const char *dir = stream->server->api->data_dir;
  if (stream->spill_fd < 0) stream->spill_fd = spill_open(dir);
  if (stream->spill_fd < 0) return rag_os_fail(err, "open", dir, errno);
  while (size > 0) {
    ssize_t n = pwrite(stream->spill_fd, data, size, (off_t)stream->spill_written);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return rag_os_fail(err, "pwrite", dir, errno);
    data += n;
    size -= (size_t)n;
    stream->spill_written += (uint64_t)n;
  }
  return RAG_OK;
}

static bool spilled(const http_stream *stream) {
  return stream->spill_read < stream->spill_written;
}

static rag_status put_some(http_stream *stream, const char **data, size_t *size, rag_error *err) {
  if (!spilled(stream) && ring_room(&stream->out) > 0) {
    size_t part = RAG_MIN(*size, ring_room(&stream->out));
    ring_put(&stream->out, *data, part);
    *data += part;
    *size -= part;
    resume_if(stream, stream->waits == WAIT_ANSWER || stream->waits == WAIT_DATA);
    return RAG_OK;
  }
  if (!stream->upload_complete) {
    RAG_TRY(spill(stream, *data, *size, err));
    *size = 0;
    return RAG_OK;
  }
  pthread_cond_wait(&stream->changed, &stream->lock);
  return RAG_OK;
}

static rag_status stream_write(void *ctx, const void *data, size_t size, rag_error *err) {
  http_stream *stream = ctx;
  const char *at = data;
  rag_status status = RAG_OK;
  pthread_mutex_lock(&stream->lock);
  if (!stream->begun) {
    stream->head = stream->working;
    stream->begun = true;
  }
  resume_if(stream, stream->waits == WAIT_ANSWER);
  while (size > 0 && status == RAG_OK) {
    if (stream->cancelled) status = rag_fail(err, RAG_CANCELLED, "the client has left, or the server stops");
    else status = put_some(stream, &at, &size, err);
  }
  if (status != RAG_OK) stream->failed = true; // what was sent is not whole: end the answer as broken
  pthread_mutex_unlock(&stream->lock);
  return status;
}

static void stream_refuse(http_stream *stream, rag_status code, const char *message) {
  rag_error error = {.status = code};
  snprintf(error.message, sizeof(error.message), "%s", message);
  bool rpc = strncmp(stream->request.target, "/ragd.", 6) == 0;
  rag_api__error_answer(&error, (rag_slice){0}, rpc, stream->arena, &stream->working);
}

static void stream_task(void *arg) {
  http_stream *stream = arg;
  rag_server *server = stream->server;
  atomic_fetch_sub_explicit(&rag_api__server.pool_queued, 1, memory_order_relaxed);
  uint64_t deadline = stream->request.deadline_ns;
  if (atomic_load(&server->stopping)) stream_refuse(stream, RAG_UNAVAILABLE, "the server is stopping");
  else if (deadline != 0 && rag_clock_monotonic_ns() > deadline)
    stream_refuse(stream, RAG_DEADLINE_EXCEEDED, "the request waited for a worker past its deadline");
  else
    rag_api_stream(server->api, &stream->request, stream->arena, stream_read, stream, stream_write, stream,
                   &stream->working);

  pthread_mutex_lock(&stream->lock);
  if (!stream->begun) stream->head = stream->working;
  stream->head.status = stream->working.status;
  stream->done = true;
  resume_if(stream, true);
  pthread_mutex_unlock(&stream->lock);
  atomic_fetch_sub_explicit(&server->streams, 1, memory_order_relaxed);
  stream_drop(stream);
}

// ---------------------------------------------------------------------------------------------- the network's side

static bool copy_string(rag_arena *arena, const char **s) {
  if (!*s) return true;
  *s = rag_arena_strndup(arena, *s, strlen(*s));
  return *s != NULL;
}

// The worker may outlive the connection: it gets its own copy of everything.
static bool copy_request(http_stream *stream, const rag_api_request *request) {
  rag_api_request *own = &stream->request;
  *own = *request;
  own->body = (rag_slice){0};
  const char **strings[] = {&own->method,     &own->target,        &own->content_type,
                            &own->accept,     &own->authorization, &own->idempotency_key,
                            &own->timeout_ms, &own->request_id,    &own->peer};
  for (size_t i = 0; i < RAG_COUNT_OF(strings); i++)
    if (!copy_string(stream->arena, strings[i])) return false;
  return true;
}

static http_stream *stream_create(http_connection *connection) {
  http_stream *stream = rag_calloc(1, sizeof(*stream));
  if (!stream) return NULL;
  atomic_init(&stream->references, 1);
  pthread_mutex_init(&stream->lock, NULL);
  pthread_cond_init(&stream->changed, NULL);
  stream->spill_fd = -1;
  stream->server = connection->thread->server;
  stream->connection = connection;
  stream->arena = rag_arena_create(HTTP_ARENA_BYTES_MAX);
  stream->in.data = rag_alloc(HTTP_PIPE_BYTES);
  stream->out.data = rag_alloc(HTTP_PIPE_BYTES);
  stream->upload_complete = !connection->has_body;
  if (stream->arena && stream->in.data && stream->out.data && copy_request(stream, &connection->request)) return stream;
  stream_drop(stream);
  return NULL;
}

rag_status http_stream_start(http_connection *connection, rag_error *err) {
  rag_server *server = connection->thread->server;
  rag_status status = RAG_OK;
  // At most half of the workers, so that a few slow streams do not stop every other request.
  if (atomic_fetch_add_explicit(&server->streams, 1, memory_order_relaxed) >= server->streams_max) {
    status =
        rag_fail(err, RAG_UNAVAILABLE, "%u streams are running, the limit; try again in a moment", server->streams_max);
    goto out;
  }
  http_stream *stream = stream_create(connection);
  if (!stream) {
    status = rag_fail_no_memory(err, 2 * HTTP_PIPE_BYTES);
    goto out;
  }
  atomic_fetch_add_explicit(&stream->references, 1, memory_order_relaxed); // the task's
  atomic_fetch_add_explicit(&rag_api__server.pool_queued, 1, memory_order_relaxed);
  status = rag_pool_submit(server->pool, stream_task, stream);
  if (status != RAG_OK) {
    atomic_fetch_sub_explicit(&rag_api__server.pool_queued, 1, memory_order_relaxed);
    stream_drop(stream);
    stream_drop(stream);
    status = rag_fail(err, RAG_UNAVAILABLE, "every worker is busy and the queue is full; try again in a moment");
    goto out;
  }
  connection->stream = stream;
out:
  if (status != RAG_OK) atomic_fetch_sub_explicit(&server->streams, 1, memory_order_relaxed);
  return status;
}

size_t http_stream_push(http_stream *stream, const void *data, size_t size) {
  pthread_mutex_lock(&stream->lock);
  size_t taken = size;
  if (!stream->done && !stream->cancelled) { // else nobody will read it: let it pass
    taken = RAG_MIN(size, ring_room(&stream->in));
    ring_put(&stream->in, data, taken);
    if (taken > 0) pthread_cond_signal(&stream->changed);
    if (taken < size) wait_for(stream, WAIT_ROOM);
  }
  pthread_mutex_unlock(&stream->lock);
  return taken;
}

void http_stream_upload_complete(http_stream *stream) {
  pthread_mutex_lock(&stream->lock);
  stream->upload_complete = true;
  pthread_cond_signal(&stream->changed);
  pthread_mutex_unlock(&stream->lock);
}

http_stream_state http_stream_answer(http_stream *stream, rag_api_response *out) {
  http_stream_state state = HTTP_STREAM_WAIT;
  pthread_mutex_lock(&stream->lock);
  if (stream->begun) state = HTTP_STREAM_FLOW;
  else if (stream->done) state = HTTP_STREAM_BODY;
  else wait_for(stream, WAIT_ANSWER);
  if (state != HTTP_STREAM_WAIT) *out = stream->head;
  pthread_mutex_unlock(&stream->lock);
  return state;
}

bool http_stream_ended_early(http_stream *stream, rag_api_response *out) {
  pthread_mutex_lock(&stream->lock);
  bool ended = stream->done && !stream->begun && stream->head.http_status >= 400;
  if (ended) *out = stream->head;
  pthread_mutex_unlock(&stream->lock);
  return ended;
}

static ssize_t pull_spilled(http_stream *stream, char *out, size_t size) {
  size_t part = (size_t)RAG_MIN((uint64_t)size, stream->spill_written - stream->spill_read);
  ssize_t n = pread(stream->spill_fd, out, part, (off_t)stream->spill_read);
  if (n <= 0) return HTTP_STREAM_BROKEN;
  stream->spill_read += (uint64_t)n;
  if (!spilled(stream)) {
    stream->spill_read = stream->spill_written = 0;
    if (ftruncate(stream->spill_fd, 0) != 0) return HTTP_STREAM_BROKEN;
  }
  return n;
}

ssize_t http_stream_pull(http_stream *stream, char *out, size_t size) {
  ssize_t result = 0;
  pthread_mutex_lock(&stream->lock);
  if (stream->cancelled) {
    result = HTTP_STREAM_BROKEN;
  } else if (stream->out.size > 0) {
    result = (ssize_t)RAG_MIN(size, stream->out.size);
    ring_take(&stream->out, out, (size_t)result);
  } else if (spilled(stream)) {
    result = pull_spilled(stream, out, size);
  } else if (stream->done) {
    result = stream->failed ? HTTP_STREAM_BROKEN : HTTP_STREAM_END;
  } else {
    wait_for(stream, WAIT_DATA);
  }
  if (result > 0 && stream->out.size <= HTTP_PIPE_BYTES / 2 && !spilled(stream)) pthread_cond_signal(&stream->changed);
  pthread_mutex_unlock(&stream->lock);
  return result;
}

bool http_stream_waits_for_us(http_stream *stream) {
  pthread_mutex_lock(&stream->lock);
  bool waits = stream->waits != WAIT_NONE;
  pthread_mutex_unlock(&stream->lock);
  return waits;
}

void http_stream_cancel(http_stream *stream) {
  pthread_mutex_lock(&stream->lock);
  stream->cancelled = true;
  pthread_cond_broadcast(&stream->changed);
  resume_if(stream, true);
  pthread_mutex_unlock(&stream->lock);
}

void http_stream_detach(http_stream *stream) {
  if (!stream) return;
  pthread_mutex_lock(&stream->lock);
  stream->cancelled = true;
  stream->connection = NULL;
  pthread_cond_broadcast(&stream->changed);
  pthread_mutex_unlock(&stream->lock);
  stream_drop(stream);
}
