// The audit log: who wrote what, and whose key was refused. A file of JSON lines that is only ever appended to:
//
//   {"time":"...","event":"write","request_id":"..","key":"key_..","peer":"127.0.0.1","route":"Documents/PutDocuments",
//    "kb":"docs","outcome":"ok","status":200,"commit":"c7"}
//   {... "event":"refused" ... "outcome":"permission_denied","status":403}
//   {"time":"...","event":"suppressed","refusals":1234}
//
// What is promised
//  1. A request never waits for this file: lines go into memory (queue_bytes_max), one thread writes them.
//  2. A write has room for its line before it begins; where there is none (the disk is full, the file cannot be written)
//     the write is refused with RAG_UNAVAILABLE. So every write that was made has its line, in the file or in memory.
//     Reads go on.
//  3. What could not be written stays and is tried again every second, from the byte where it broke off: lines are never
//     torn but by a crash, and then the next start begins a new line.
//  4. Refusals take no more than half of the room and REFUSALS_PER_S of them a second are written; the rest is counted
//     in a "suppressed" line. Else whoever has no key could stop the writes of those who have one, or push their lines
//     out of the files that are kept.
//  5. Lines are synced to the disk within a second or so; a crash of the process loses those of its last milliseconds, a
//     power cut those of the last second. The commit that a line tells of is durable in any case.
//
// Files: PATH is written; when it would pass bytes_max it becomes PATH.1, PATH.1 becomes PATH.2, ..., PATH.files_max goes.
// Anything but a regular file (a pipe, a device) is never rotated.
//
// Threads: any; `lock` guards the queue and the counts. fd, size and `pending` belong to the writer.
#include "api/dispatch_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LINE_BYTES_MAX 1536u
#define SHOWN_BYTES_MAX 64u // of a name that a client sent; 6 times that in JSON at most
#define REFUSALS_PER_S 100u
#define QUEUE_BYTES_MIN (8u * LINE_BYTES_MAX)
#define NS_PER_S UINT64_C(1000000000)

struct rag_api__audit {
  char *path;
  uint64_t bytes_max; // immutable, like those below
  uint32_t files_max;
  size_t queue_max;
  bool regular;

  pthread_mutex_t lock;
  pthread_cond_t wake;
  rag_buf queue;          // guarded by: lock; its capacity is queue_max from the start
  size_t reserved;        // guarded by: lock; lines that running writes will add
  uint64_t suppressed;    // guarded by: lock
  unsigned refusals_left; // guarded by: lock; of this second
  uint64_t second;        // guarded by: lock
  bool stopping;          // guarded by: lock
  bool started;
  pthread_t thread;

  int fd; // the writer's, like those below
  uint64_t size;
  rag_buf pending; // taken from the queue, from `written` on not in the file yet
  size_t written;
  bool failing, unsynced;
  uint64_t synced_ns;
};

// ---------------------------------------------------------------------------------------------- the file

static rag_status file_open(rag_api__audit *audit, rag_error *err) {
  struct stat info = {0};
  int fd = open(audit->path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0600);
  if (fd < 0 && errno == EACCES) fd = open(audit->path, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOCTTY);
  if (fd < 0) return rag_os_fail(err, "open", audit->path, errno);
  if (fstat(fd, &info) != 0) {
    rag_status status = rag_os_fail(err, "fstat", audit->path, errno);
    close(fd);
    return status;
  }
  audit->fd = fd;
  audit->regular = S_ISREG(info.st_mode);
  audit->size = audit->regular ? (uint64_t)info.st_size : 0;
  return RAG_OK;
}

// A line that a crash has torn is ended, so that the next one is whole.
static void mend_end(rag_api__audit *audit) {
  char last = '\n';
  if (!audit->regular || audit->size == 0 || pread(audit->fd, &last, 1, (off_t)audit->size - 1) != 1) return;
  if (last != '\n') rag_buf_append_char(&audit->pending, '\n');
}

static void rotate(rag_api__audit *audit) {
  char from[4096], to[4096];
  fsync(audit->fd); // what is renamed is whole
  for (uint32_t i = audit->files_max; i > 0; i--) {
    if (i > 1) snprintf(from, sizeof(from), "%s.%u", audit->path, i - 1);
    else snprintf(from, sizeof(from), "%s", audit->path);
    snprintf(to, sizeof(to), "%s.%u", audit->path, i);
    if (rename(from, to) != 0 && errno != ENOENT)
      rag_log(RAG_LOG_WARN, "audit.not_rotated", "from=%s to=%s error=%d", from, to, errno);
  }
  int old = audit->fd;
  rag_error err = {0};
  if (file_open(audit, &err) == RAG_OK) close(old);
  else rag_log(RAG_LOG_WARN, "audit.not_rotated", "message=%s", err.message); // the old one goes on
}

// Tries to write what is pending. False: not all of it, for now.
static bool write_pending(rag_api__audit *audit) {
  size_t left = audit->pending.size - audit->written;
  if (left == 0) return true;
  // Only between lines: a line is never spread over two files.
  if (audit->regular && audit->written == 0 && audit->size > 0 && audit->size + left > audit->bytes_max) rotate(audit);
  while (left > 0) {
    ssize_t n = write(audit->fd, audit->pending.data + audit->written, left);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      if (!audit->failing)
        rag_log(RAG_LOG_ERROR, "audit.not_written", "path=%s error=%s queue_bytes_max=%zu effect=%s", audit->path,
                strerror(n < 0 ? errno : ENOSPC), audit->queue_max, "writes are refused once the queue is full");
      audit->failing = true;
      atomic_store_explicit(&rag_api__server.audit_failing, 1, memory_order_relaxed);
      return false;
    }
    audit->written += (size_t)n;
    audit->size += (uint64_t)n;
    left -= (size_t)n;
    audit->unsynced = true;
  }
  rag_buf_clear(&audit->pending);
  audit->written = 0;
  if (audit->failing) rag_log(RAG_LOG_WARN, "audit.written_again", "path=%s", audit->path);
  audit->failing = false;
  atomic_store_explicit(&rag_api__server.audit_failing, 0, memory_order_relaxed);
  return true;
}

// ---------------------------------------------------------------------------------------------- the writer

static void put_time(rag_buf *out) {
  char now[RAG_TIME_TEXT_MAX];
  rag_time_format(rag_clock_now_us(), now);
  rag_buf_printf(out, "{\"time\":\"%s\"", now);
}

// With the lock held, and pending empty: the buffers change places, so nothing is copied or allocated.
static void take_queue(rag_api__audit *audit) {
  rag_buf taken = audit->queue;
  audit->queue = audit->pending;
  audit->pending = taken;
  if (audit->suppressed == 0) return;
  put_time(&audit->pending);
  rag_buf_printf(&audit->pending, ",\"event\":\"suppressed\",\"refusals\":%llu}\n",
                 (unsigned long long)audit->suppressed);
  audit->suppressed = 0;
}

// Until there is something to do, or a second has passed while something is open. With the lock held.
static void wait_for_work(rag_api__audit *audit) {
  struct timespec until;
  bool open_ends = audit->failing || audit->unsynced || audit->suppressed > 0;
  clock_gettime(CLOCK_MONOTONIC, &until);
  until.tv_sec += 1;
  int waited = 0;
  while (!audit->stopping && waited == 0 && (audit->queue.size == 0 || audit->failing)) {
    if (open_ends) waited = pthread_cond_timedwait(&audit->wake, &audit->lock, &until);
    else waited = pthread_cond_wait(&audit->wake, &audit->lock);
    open_ends = open_ends || audit->suppressed > 0;
  }
}

static void sync_sometimes(rag_api__audit *audit) {
  uint64_t now_ns = rag_clock_monotonic_ns();
  if (!audit->unsynced || now_ns - audit->synced_ns < NS_PER_S) return;
  fdatasync(audit->fd); // a failure shows at the next write, or is the disk's end
  audit->unsynced = false;
  audit->synced_ns = now_ns;
}

static void *writer(void *arg) {
  rag_api__audit *audit = arg;
  pthread_setname_np(pthread_self(), "ragd-audit");
  bool stopping = false;
  while (!stopping) {
    pthread_mutex_lock(&audit->lock);
    wait_for_work(audit);
    stopping = audit->stopping;
    pthread_mutex_unlock(&audit->lock);
    if (!write_pending(audit)) continue;
    pthread_mutex_lock(&audit->lock);
    take_queue(audit);
    pthread_mutex_unlock(&audit->lock);
    if (write_pending(audit)) sync_sometimes(audit);
  }
  return NULL;
}

// ---------------------------------------------------------------------------------------------- life

rag_status rag_api__audit_open(const rag_audit_options *options, rag_api__audit **out, rag_error *err) {
  rag_status status = RAG_OK;
  rag_api__audit *audit = rag_calloc(1, sizeof(*audit));
  if (!audit) return rag_fail_no_memory(err, sizeof(*audit));
  audit->fd = -1;
  audit->bytes_max = options->bytes_max;
  audit->files_max = options->files_max;
  audit->queue_max = RAG_MAX(options->queue_bytes_max, QUEUE_BYTES_MIN);
  pthread_mutex_init(&audit->lock, NULL);
  pthread_condattr_t attr;
  pthread_condattr_init(&attr);
  pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
  pthread_cond_init(&audit->wake, &attr);
  pthread_condattr_destroy(&attr);
  audit->path = rag_strdup(options->path);
  // And a line for what was suppressed, and the end of a torn one.
  rag_buf_reserve(&audit->queue, audit->queue_max + LINE_BYTES_MAX);
  rag_buf_reserve(&audit->pending, audit->queue_max + LINE_BYTES_MAX);
  if (!audit->path || audit->queue.failed || audit->pending.failed)
    RAG_TRY_OUT(rag_fail_no_memory(err, audit->queue_max));
  RAG_TRY_OUT(file_open(audit, err));
  mend_end(audit);
  int failed = pthread_create(&audit->thread, NULL, writer, audit);
  if (failed) RAG_TRY_OUT(rag_os_fail(err, "pthread_create", "ragd-audit", failed));
  audit->started = true;
  *out = audit;
  audit = NULL;
out:
  if (status != RAG_OK) (void)rag_error_prefix(err, "the audit log");
  rag_api__audit_close(audit);
  return status;
}

void rag_api__audit_close(rag_api__audit *audit) {
  if (!audit) return;
  pthread_mutex_lock(&audit->lock);
  audit->stopping = true;
  pthread_cond_signal(&audit->wake);
  pthread_mutex_unlock(&audit->lock);
  if (audit->started) pthread_join(audit->thread, NULL);
  size_t lost = audit->pending.size - audit->written + audit->queue.size;
  if (lost > 0) rag_log(RAG_LOG_ERROR, "audit.lost", "path=%s bytes=%zu", audit->path, lost);
  if (audit->fd >= 0) {
    if (audit->unsynced) fsync(audit->fd);
    close(audit->fd);
  }
  rag_buf_free(&audit->queue);
  rag_buf_free(&audit->pending);
  pthread_cond_destroy(&audit->wake);
  pthread_mutex_destroy(&audit->lock);
  rag_free(audit->path);
  rag_free(audit);
}

// ---------------------------------------------------------------------------------------------- lines

bool rag_api__audit_reserve(rag_api__audit *audit) {
  pthread_mutex_lock(&audit->lock);
  bool room = audit->queue.size + audit->reserved + LINE_BYTES_MAX <= audit->queue_max;
  if (room) audit->reserved += LINE_BYTES_MAX;
  pthread_mutex_unlock(&audit->lock);
  return room;
}

void rag_api__audit_release(rag_api__audit *audit) {
  pthread_mutex_lock(&audit->lock);
  RAG_ASSERT(audit->reserved >= LINE_BYTES_MAX);
  audit->reserved -= LINE_BYTES_MAX;
  pthread_mutex_unlock(&audit->lock);
}

// With the lock held.
static bool may_log_refusal(rag_api__audit *audit) {
  uint64_t second = rag_clock_monotonic_ns() / NS_PER_S;
  if (second != audit->second) {
    audit->second = second;
    audit->refusals_left = REFUSALS_PER_S;
  }
  bool room = audit->queue.size + audit->reserved + LINE_BYTES_MAX <= audit->queue_max / 2;
  if (!room || audit->refusals_left == 0) return false;
  audit->refusals_left--;
  return true;
}

static void put_member(rag_buf *out, const char *name, rag_slice value) {
  if (value.size == 0) return;
  value.size = rag_utf8_bad_offset(value.data, value.size); // what is no UTF-8 is no name of ours
  value.size = rag_utf8_floor(value.data, value.size, RAG_MIN(value.size, (size_t)SHOWN_BYTES_MAX));
  rag_buf_printf(out, ",\"%s\":", name);
  rag_json_put_string(out, value);
}

static void put_line(rag_buf *out, const char *event, const rag_api__audit_line *line) {
  size_t start = out->size;
  put_time(out);
  rag_buf_printf(out, ",\"event\":\"%s\"", event);
  put_member(out, "request_id", rag_slice_str(line->request_id));
  put_member(out, "key", rag_slice_str(line->key_id));
  put_member(out, "peer", rag_slice_str(line->peer));
  put_member(out, "route", rag_slice_str(line->route));
  put_member(out, "kb", line->kb);
  put_member(out, "outcome", rag_slice_str(line->outcome));
  rag_buf_printf(out, ",\"status\":%d", line->http_status);
  put_member(out, "commit", line->commit);
  if (line->job) rag_buf_printf(out, ",\"job\":%llu", (unsigned long long)line->job);
  rag_buf_append_str(out, "}\n");
  RAG_ASSERT(out->failed || out->size - start <= LINE_BYTES_MAX);
}

void rag_api__audit_write(rag_api__audit *audit, const rag_api__audit_line *line, bool reserved) {
  pthread_mutex_lock(&audit->lock);
  if (reserved) audit->reserved -= LINE_BYTES_MAX;
  if (reserved || may_log_refusal(audit)) put_line(&audit->queue, reserved ? "write" : "refused", line);
  else audit->suppressed++;
  pthread_cond_signal(&audit->wake);
  pthread_mutex_unlock(&audit->lock);
}
