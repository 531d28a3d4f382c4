// What happens at twice the load that the server can do? A load generator of one thread against the real daemon on
// loopback; README.md says what is asked and how to run it.
//
//   peak       closed loop: CONNECTIONS_CLOSED connections, each sends its next search when the last is answered
//   overload   open loop: searches are due at fixed times, twice the peak's rate, whoever has been answered or not; each
//              goes to an idle connection. Latency counts from when it was due, so a client that is late hides nothing.
//              Where every connection waits, the search that is due is not sent and counted as such.
//
// Three rounds of both, and a peak after the last: the machine is shared, and what it has to spare changes from minute to
// minute, so each round is held against the peaks right before and after it.
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/base.h"

#define ROUNDS 3u
#define CONNECTIONS_CLOSED 32u
#define CONNECTIONS_OPEN 1000u
#define ANSWER_BYTES_MAX (256u << 10)
#define LATENCIES_MAX 4000000u
#define NS_PER_S 1000000000ull

typedef struct link_t {
  int fd;
  bool busy;
  uint64_t due_ns;
  size_t size;     // bytes of the answer so far
  size_t want;     // of the whole answer; 0: not known yet
  char data[8192]; // its head; the rest is only counted
} link_t;

typedef struct counts {
  uint64_t offered, sent, ok, refused_429, refused_503, without_retry_after, other, broken, not_sent;
  uint32_t *latency_us; // of those that were answered 200
  size_t latencies;
  uint32_t *refusal_us;
  size_t refusals;
} counts;

static int epoll_fd;
static link_t links[CONNECTIONS_OPEN];
static unsigned link_count;
static struct sockaddr_in server;
static char request[4096];
static size_t request_size;

static void die(const char *what) {
  fprintf(stderr, "overload: %s: %s\n", what, strerror(errno));
  exit(1);
}

static void dial(link_t *l) {
  l->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  int on = 1;
  setsockopt(l->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  if (connect(l->fd, (struct sockaddr *)&server, sizeof(server)) != 0) die("connect");
  fcntl(l->fd, F_SETFL, O_NONBLOCK);
  l->busy = false;
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = l};
  if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, l->fd, &event) != 0) die("epoll_ctl");
}

static void connect_all(unsigned count) {
  for (; link_count < count; link_count++) dial(&links[link_count]);
}

static void post(link_t *l, uint64_t due_ns, counts *c) {
  l->busy = true;
  l->due_ns = due_ns;
  l->size = l->want = 0;
  if (send(l->fd, request, request_size, MSG_NOSIGNAL) != (ssize_t)request_size) die("send"); // small: it fits
  c->sent++;
}

static void count_answer(link_t *l, uint64_t now_ns, counts *c) {
  int status = atoi(l->data + 9);
  uint32_t us = (uint32_t)((now_ns - l->due_ns) / 1000);
  if (status == 200) {
    c->ok++;
    if (c->latency_us && c->latencies < LATENCIES_MAX) c->latency_us[c->latencies++] = us;
  } else if (status == 429 || status == 503) {
    if (status == 429) c->refused_429++;
    else c->refused_503++;
    if (!strcasestr(l->data, "\r\nRetry-After: ")) c->without_retry_after++;
    if (c->refusal_us && c->refusals < LATENCIES_MAX) c->refusal_us[c->refusals++] = us;
  } else {
    c->other++;
  }
}

// True: the answer is whole.
static bool take(link_t *l, counts *c) {
  char scratch[65536];
  for (;;) {
    bool head = l->want == 0;
    ssize_t n = head ? recv(l->fd, l->data + l->size, sizeof(l->data) - 1 - l->size, 0)
                     : recv(l->fd, scratch, RAG_MIN(sizeof(scratch), l->want - l->size), 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return false;
    if (n <= 0) {
      c->broken++;
      close(l->fd);
      dial(l);
      return false;
    }
    l->size += (size_t)n;
    if (head) {
      l->data[l->size] = '\0';
      char *end = strstr(l->data, "\r\n\r\n");
      if (!end) continue;
      char *length = strcasestr(l->data, "\r\nContent-Length: ");
      if (!length) die("an answer without a length");
      l->want = (size_t)(end - l->data) + 4 + strtoull(length + 18, NULL, 10);
    }
    if (l->size >= l->want) return true;
  }
}

// Answers that are there, within timeout_ms. again: a closed loop.
static void serve_answers(int timeout_ms, bool again, counts *c) {
  struct epoll_event events[256];
  int n = epoll_wait(epoll_fd, events, 256, timeout_ms);
  for (int i = 0; i < n; i++) {
    link_t *l = events[i].data.ptr;
    if (!l->busy) { // closed while idle
      close(l->fd);
      dial(l);
      continue;
    }
    if (!take(l, c)) continue;
    uint64_t now_ns = rag_clock_monotonic_ns();
    l->busy = false;
    count_answer(l, now_ns, c);
    if (again) {
      c->offered++;
      post(l, now_ns, c);
    }
  }
}

static void settle(counts *c) { // what was sent is answered before the next phase begins
  uint64_t until = rag_clock_monotonic_ns() + 10 * NS_PER_S;
  for (unsigned busy = 1; busy && rag_clock_monotonic_ns() < until;) {
    serve_answers(10, false, c);
    busy = 0;
    for (unsigned i = 0; i < link_count; i++) busy += links[i].busy;
  }
}

static double closed_loop(double seconds, counts *c) {
  connect_all(CONNECTIONS_CLOSED);
  uint64_t start = rag_clock_monotonic_ns(), end = start + (uint64_t)(seconds * NS_PER_S);
  for (unsigned i = 0; i < CONNECTIONS_CLOSED; i++) {
    c->offered++;
    post(&links[i], start, c);
  }
  while (rag_clock_monotonic_ns() < end) serve_answers(10, true, c);
  double rate = (double)c->ok / ((double)(rag_clock_monotonic_ns() - start) / 1e9);
  settle(c);
  return rate;
}

static uint64_t rss_bytes(pid_t pid) {
  char path[64], line[128] = "";
  unsigned long long pages = 0;
  snprintf(path, sizeof(path), "/proc/%d/statm", (int)pid);
  FILE *file = fopen(path, "r");
  if (file && fgets(line, sizeof(line), file)) sscanf(line, "%*u %llu", &pages);
  if (file) fclose(file);
  return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

// *rss_third: the server's memory after a third of the time, when every connection has been used.
static double open_loop(double rate, double seconds, pid_t pid, uint64_t *rss_third, counts *c) {
  connect_all(CONNECTIONS_OPEN);
  uint64_t start = rag_clock_monotonic_ns(), end = start + (uint64_t)(seconds * NS_PER_S), now_ns;
  uint64_t before = c->ok, due_next = 0; // of this round
  double step_ns = 1e9 / rate;
  unsigned next = 0;
  while ((now_ns = rag_clock_monotonic_ns()) < end) {
    if (*rss_third == 0 && now_ns > start + (end - start) / 3) *rss_third = rss_bytes(pid);
    uint64_t due_count = (uint64_t)((double)(now_ns - start) / step_ns);
    for (unsigned burst = 0; due_next < due_count && burst < 64; burst++) {
      uint64_t due_ns = start + (uint64_t)((double)due_next * step_ns);
      unsigned tried = 0;
      while (tried < link_count && links[next].busy) {
        next = (next + 1) % link_count;
        tried++;
      }
      c->offered++;
      due_next++;
      if (tried == link_count) c->not_sent++;
      else post(&links[next], due_ns, c);
    }
    serve_answers(due_next < due_count ? 0 : 1, false, c);
  }
  double goodput = (double)(c->ok - before) / ((double)(rag_clock_monotonic_ns() - start) / 1e9);
  settle(c);
  return goodput;
}

// ---------------------------------------------------------------------------------------------- the server

static pid_t start_server(const char *dir) {
  int out[2];
  char line[512] = "";
  if (pipe(out) != 0) die("pipe");
  pid_t pid = fork();
  if (pid < 0) die("fork");
  if (pid == 0) {
    dup2(out[1], 1);
    execl(RAGD_BIN, "ragd", "serve", "--data", dir, "--listen", "127.0.0.1:0", "--access-log", "off", "--log-level",
          "warn", (char *)NULL);
    die("exec " RAGD_BIN);
  }
  close(out[1]);
  FILE *ready = fdopen(out[0], "r");
  char *port = ready && fgets(line, sizeof(line), ready) ? strstr(line, "127.0.0.1:") : NULL;
  if (!port) die("the server did not start");
  fclose(ready);
  server = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port + 10))};
  server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return pid;
}

static void make_request(const char *target, const char *body, size_t size, rag_buf *out) {
  rag_buf_clear(out);
  rag_buf_printf(out, "POST %s HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
                 target, size);
  rag_buf_append(out, body, size);
}

static void call(const char *target, const char *body, size_t size) {
  rag_buf text = {0};
  char answer[4096];
  struct sockaddr_in to = server;
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  make_request(target, body, size, &text);
  if (connect(fd, (struct sockaddr *)&to, sizeof(to)) != 0 ||
      rag_os_write_all(fd, text.data, text.size, NULL) != RAG_OK)
    die(target);
  ssize_t n = recv(fd, answer, sizeof(answer) - 1, 0);
  answer[n > 0 ? n : 0] = '\0';
  if (strncmp(answer, "HTTP/1.1 200", 12) != 0) {
    fprintf(stderr, "overload: %s: %s\n", target, answer);
    exit(1);
  }
  close(fd);
  rag_buf_free(&text);
}

static void fill(unsigned documents) {
  rag_buf body = {0};
  uint64_t state = 7;
  call("/v1/kbs", "{\"name\":\"docs\"}", 15);
  for (unsigned at = 0; at < documents;) {
    rag_buf_clear(&body);
    rag_buf_append_str(&body, "{\"documents\":[");
    for (unsigned i = 0; i < 500 && at < documents; i++, at++) {
      rag_buf_printf(&body, "%s{\"id\":\"d%u\",\"text\":\"", i ? "," : "", at);
      for (unsigned w = 0; w < 12; w++) {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        rag_buf_printf(&body, "w%u ", (unsigned)(state >> 33) % 5000);
      }
      rag_buf_append_str(&body, "\"}");
    }
    rag_buf_append_str(&body, "]}");
    call("/v1/kbs/docs/documents", body.data, body.size);
  }
  rag_buf_free(&body);
}

// ---------------------------------------------------------------------------------------------- the report

static int by_value(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return x < y ? -1 : x > y;
}

static double quantile_ms(uint32_t *values, size_t count, double q) {
  if (count == 0) return 0;
  qsort(values, count, sizeof(*values), by_value);
  return values[RAG_MIN((size_t)(q * (double)count), count - 1)] / 1000.0;
}

int main(int argc, char **argv) {
  unsigned documents = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 20000;
  double seconds = argc > 2 ? strtod(argv[2], NULL) : 30;
  const char *mode = argc > 3 ? argv[3] : "vector";
  char dir[] = "/tmp/ragd-overload-XXXXXX", body[256];
  counts warm = {0}, peak = {0}, over = {0};
  if (!mkdtemp(dir)) die("mkdtemp");
  peak.latency_us = rag_calloc(LATENCIES_MAX, 4);
  over.latency_us = rag_calloc(LATENCIES_MAX, 4);
  over.refusal_us = rag_calloc(LATENCIES_MAX, 4);
  epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  signal(SIGPIPE, SIG_IGN);
  pid_t pid = start_server(dir);
  fill(documents);
  rag_buf text = {0};
  int size = snprintf(body, sizeof(body), "{\"query\":\"w1 w22 w333\",\"k\":10,\"mode\":\"%s\"}", mode);
  make_request("/v1/kbs/docs/search", body, (size_t)size, &text);
  memcpy(request, text.data, text.size);
  request_size = text.size;

  closed_loop(3, &warm);
  connect_all(CONNECTIONS_OPEN);
  uint64_t rss_before = rss_bytes(pid), rss_third = 0;
  double peaks[ROUNDS + 1], goodput[ROUNDS], ratio[ROUNDS], offered = 0;
  for (unsigned i = 0; i <= ROUNDS; i++) {
    counts one = {.latency_us = i == 0 ? peak.latency_us : NULL};
    peaks[i] = closed_loop(8, &one);
    peak.refused_503 += one.refused_503 + one.refused_429;
    if (i == 0) peak.latencies = one.latencies;
    if (i == ROUNDS) break;
    for (unsigned p = 0; p <= i; p++) offered = RAG_MAX(offered, 2 * peaks[p]);
    goodput[i] = open_loop(offered, seconds, pid, &rss_third, &over);
  }
  uint64_t rss_after = rss_bytes(pid);
  for (unsigned i = 0; i < ROUNDS; i++) ratio[i] = goodput[i] / ((peaks[i] + peaks[i + 1]) / 2);
  kill(pid, SIGTERM);
  int status = 0;
  waitpid(pid, &status, 0);
  if (rag_os_remove_tree(dir, NULL) != RAG_OK) fprintf(stderr, "overload: %s stays\n", dir);

  struct utsname machine;
  uname(&machine);
  double answered = (double)(over.ok + over.refused_429 + over.refused_503 + over.other);
  printf("{\"documents\": %u, \"mode\": \"%s\", \"seconds\": %.0f, \"cpus\": %u, \"kernel\": \"%s\",\n", documents,
         mode, seconds, rag_os_cpu_count(), machine.release);
  printf(" \"peak\": {\"connections\": %u, \"per_s\": [%.1f, %.1f, %.1f, %.1f], \"p50_ms\": %.2f, \"p99_ms\": %.2f, "
         "\"refused\": %llu},\n",
         CONNECTIONS_CLOSED, peaks[0], peaks[1], peaks[2], peaks[3], quantile_ms(peak.latency_us, peak.latencies, 0.5),
         quantile_ms(peak.latency_us, peak.latencies, 0.99), (unsigned long long)peak.refused_503);
  printf(" \"overload\": {\"connections\": %u, \"offered\": %llu, \"goodput_per_s\": [%.1f, %.1f, %.1f], "
         "\"goodput_of_peak\": [%.3f, %.3f, %.3f],\n",
         CONNECTIONS_OPEN, (unsigned long long)over.offered, goodput[0], goodput[1], goodput[2], ratio[0], ratio[1],
         ratio[2]);
  printf("  \"p50_ms\": %.2f, \"p99_ms\": %.2f, \"p999_ms\": %.2f, \"refusal_p50_ms\": %.2f, \"refusal_p99_ms\": "
         "%.2f,\n",
         quantile_ms(over.latency_us, over.latencies, 0.5), quantile_ms(over.latency_us, over.latencies, 0.99),
         quantile_ms(over.latency_us, over.latencies, 0.999), quantile_ms(over.refusal_us, over.refusals, 0.5),
         quantile_ms(over.refusal_us, over.refusals, 0.99));
  printf("  \"ok\": %llu, \"status_429\": %llu, \"status_503\": %llu, \"without_retry_after\": %llu, \"other\": %llu, "
         "\"broken\": %llu, \"not_sent\": %llu, \"refused_share\": %.3f},\n",
         (unsigned long long)over.ok, (unsigned long long)over.refused_429, (unsigned long long)over.refused_503,
         (unsigned long long)over.without_retry_after, (unsigned long long)over.other, (unsigned long long)over.broken,
         (unsigned long long)over.not_sent, (double)(over.refused_429 + over.refused_503) / RAG_MAX(answered, 1.0));
  printf(" \"rss_before_bytes\": %llu, \"rss_third_bytes\": %llu, \"rss_after_bytes\": %llu, \"exit_status\": %d}\n",
         (unsigned long long)rss_before, (unsigned long long)rss_third, (unsigned long long)rss_after, status);
  rag_buf_free(&text);
  rag_free(peak.latency_us);
  rag_free(over.latency_us);
  rag_free(over.refusal_us);
  return 0;
}
