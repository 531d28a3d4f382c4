// What does a request cost beside a bare libmicrohttpd that answers the same bytes? See README.md.
//
// Three processes: this one, the client; ragd's server over a small knowledge base; a bare libmicrohttpd with the same
// flags, memory, loop and number of threads, whose answers were made at start from ragd's own. The client sends the same
// bytes to both over the same number of kept-alive connections, in short rounds by turns, and reads each server's CPU
// time from its process clock. Prints JSON.
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "api/api.h"
#include "proto/ragd.pb-c.h"

#define DIMENSION 384
#define DOCUMENTS 100
#define CONNECTIONS 8
#define ROUNDS_MAX 1001
#define ANSWER_MAX (1u << 20)

static bool client_sleeps;

static void die(const char *what) {
  fprintf(stderr, "http_overhead: %s: %s\n", what, strerror(errno));
  exit(1);
}

// ---------------------------------------------------------------------------------------------- requests

typedef struct variant {
  const char *name;
  const char *path;
  const char *type; // NULL: GET
  rag_buf body;
  rag_buf request; // to ragd
  rag_buf answer;  // ragd's body
  char answer_type[64];
} variant;

static uint64_t random_state = 1;
static float random_float(void) { // SplitMix64; seeded, so that every run has the same data
  uint64_t z = random_state += UINT64_C(0x9E3779B97F4A7C15);
  z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
  return (float)(int32_t)((z ^ (z >> 31)) >> 32) / 2147483648.0f;
}

static void random_vector(float *out) {
  for (size_t i = 0; i < DIMENSION; i++) out[i] = random_float();
}

static void json_vector(rag_buf *out, const float *vector) {
  for (size_t i = 0; i < DIMENSION; i++) rag_buf_printf(out, "%s%.9g", i ? "," : "[", (double)vector[i]);
  rag_buf_append_char(out, ']');
}

static void make_request(variant *v) {
  if (v->type)
    rag_buf_printf(&v->request,
                   "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n", v->path,
                   v->type, v->body.size);
  else rag_buf_printf(&v->request, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", v->path);
  rag_buf_append(&v->request, v->body.data, v->body.size);
}

static void make_variants(variant *v) {
  float vector[DIMENSION];
  random_vector(vector);
  v[0] =
      (variant){.name = "search by vector, protobuf", .path = "/v1/kbs/bench/search", .type = "application/x-protobuf"};
  Ragd__V1__SearchRequest search = RAGD__V1__SEARCH_REQUEST__INIT;
  search.vector.data = (uint8_t *)vector;
  search.vector.len = sizeof(vector);
  rag_buf_reserve(&v[0].body, ragd__v1__search_request__get_packed_size(&search));
  v[0].body.size = ragd__v1__search_request__pack(&search, (uint8_t *)v[0].body.data);
  v[1] = (variant){.name = "search by vector, JSON", .path = "/v1/kbs/bench/search", .type = "application/json"};
  rag_buf_append_str(&v[1].body, "{\"vector\":");
  json_vector(&v[1].body, vector);
  rag_buf_append_str(&v[1].body, "}");
  v[2] = (variant){.name = "healthz", .path = "/healthz"};
  for (int i = 0; i < 3; i++) make_request(&v[i]);
}

// ---------------------------------------------------------------------------------------------- ragd

static void call(rag_api *api, const char *target, const rag_buf *body) {
  rag_arena *arena = rag_arena_create(0);
  rag_api_response response = {0};
  rag_api_request request = {.method = "POST",
                             .target = target,
                             .content_type = "application/json",
                             .body = rag_buf_slice(body),
                             .trusted = true};
  rag_api_handle(api, &request, arena, &response);
  if (response.http_status != 200) {
    fprintf(stderr, "http_overhead: %s: %.*s\n", target, (int)response.body.size, response.body.data);
    exit(1);
  }
  rag_arena_destroy(arena);
}

static void load_documents(rag_api *api) {
  rag_buf body = {0};
  rag_buf_printf(&body, "{\"name\":\"bench\",\"dimension\":%d,\"metric\":\"cosine\"}", DIMENSION);
  call(api, "/v1/kbs", &body);
  rag_buf_clear(&body);
  rag_buf_append_str(&body, "{\"documents\":[");
  for (int i = 0; i < DOCUMENTS; i++) {
    float vector[DIMENSION];
    random_vector(vector);
    rag_buf_printf(&body, "%s{\"id\":\"doc-%03d\",\"text\":\"The text of document %d, one sentence long.\",\"vector\":",
                   i ? "," : "", i, i);
    json_vector(&body, vector);
    rag_buf_append_str(&body, "}");
  }
  rag_buf_append_str(&body, "]}");
  call(api, "/v1/kbs/bench/documents", &body);
  rag_buf_free(&body);
}

// Serves until the pipe's other end is closed. Writes its port first.
static void run_ragd(unsigned threads, bool log, int ready, int stop) {
  char dir[] = "/tmp/ragd-http-overhead-XXXXXX", byte;
  rag_error err = {0};
  rag_api *api = NULL;
  rag_server *server = NULL;
  if (!mkdtemp(dir)) die("mkdtemp");
  if (log && !freopen("/dev/null", "w", stderr)) die("/dev/null"); // the cost of writing, not of a disk
  if (!log) rag_log_setup(2, RAG_LOG_WARN, RAG_LOG_TEXT);
  rag_api_options options = rag_api_options_default();
  options.data_dir = dir;
  if (rag_api_open(&options, &api, &err) != RAG_OK) goto failed;
  load_documents(api);
  rag_server_options serving = rag_server_options_default();
  serving.listen = "127.0.0.1:0";
  serving.network_threads = threads;
  serving.access_log = log;
  if (rag_server_start(api, &serving, &server, &err) != RAG_OK) goto failed;
  uint16_t port = (uint16_t)atoi(strrchr(rag_server_url(server), ':') + 1);
  if (write(ready, &port, sizeof(port)) != sizeof(port)) die("write");
  while (read(stop, &byte, 1) > 0) {
  }
  rag_server_stop(server, 1000);
  rag_api_close(api);
  if (rag_os_remove_tree(dir, &err) != RAG_OK) goto failed;
  _exit(0);
failed:
  fprintf(stderr, "http_overhead: %s\n", err.message);
  _exit(1);
}

// ---------------------------------------------------------------------------------------------- bare libmicrohttpd

typedef struct bare {
  const variant *variants;
  struct MHD_Response *answers[3];
} bare;

static enum MHD_Result bare_answer(void *cls, struct MHD_Connection *connection, const char *url, const char *method,
                                   const char *version, const char *upload, size_t *upload_size, void **context) {
  (void)method, (void)version, (void)upload;
  const bare *b = cls;
  static int seen;
  if (!*context) {
    *context = &seen;
    return MHD_YES;
  }
  if (*upload_size > 0) {
    *upload_size = 0;
    return MHD_YES;
  }
  return MHD_queue_response(connection, MHD_HTTP_OK, b->answers[url[1] - '0']);
}

static void *bare_loop(void *arg) {
  struct MHD_Daemon *daemon = arg;
  int fd = MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
  for (;;) {
    MHD_UNSIGNED_LONG_LONG ms = 0;
    if (MHD_get_timeout(daemon, &ms) != MHD_YES || ms > 0) {
      struct pollfd look = {.fd = fd, .events = POLLIN};
      poll(&look, 1, 250);
    }
    MHD_run(daemon);
  }
  return NULL;
}

static void run_bare(const variant *variants, unsigned threads, int ready, int stop) {
  static bare b;
  uint16_t port = 0;
  b.variants = variants;
  for (int i = 0; i < 3; i++) {
    b.answers[i] =
        MHD_create_response_from_buffer(variants[i].answer.size, variants[i].answer.data, MHD_RESPMEM_PERSISTENT);
    MHD_add_response_header(b.answers[i], "Server", "ragd");
    MHD_add_response_header(b.answers[i], "X-Request-Id", "0123456789abcdef");
    MHD_add_response_header(b.answers[i], "Content-Type", variants[i].answer_type);
  }
  for (unsigned i = 0; i < threads; i++) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    struct MHD_Daemon *daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, port, NULL, NULL, bare_answer, &b, MHD_OPTION_SOCK_ADDR, &at,
        MHD_OPTION_LISTENING_ADDRESS_REUSE, 1u, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)32768, MHD_OPTION_END);
    if (!daemon) die("MHD_start_daemon");
    port = MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_BIND_PORT)->port;
    pthread_t thread;
    if (pthread_create(&thread, NULL, bare_loop, daemon) != 0) die("pthread_create");
  }
  if (write(ready, &port, sizeof(port)) != sizeof(port)) die("write");
  char byte;
  while (read(stop, &byte, 1) > 0) {
  }
  _exit(0);
}

// ---------------------------------------------------------------------------------------------- the client

typedef struct server {
  pid_t pid;
  clockid_t clock;
  uint16_t port;
  int stop; // closing it stops the server
  int fds[CONNECTIONS];
} server;

static void dial(server *s) {
  for (int i = 0; i < CONNECTIONS; i++) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(s->port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int one = 1;
    s->fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(s->fds[i], (struct sockaddr *)&to, sizeof(to)) != 0) die("connect");
    setsockopt(s->fds[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
  }
}

typedef enum kind { RAGD, RAGD_LOGGING, BARE } kind;

static server launch(kind which, const variant *variants, unsigned threads) {
  int ready[2], stop[2];
  server s = {0};
  if (pipe2(ready, O_CLOEXEC) != 0 || pipe2(stop, O_CLOEXEC) != 0) die("pipe");
  s.pid = fork();
  if (s.pid < 0) die("fork");
  if (s.pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    close(ready[0]);
    close(stop[1]);
    if (which == BARE) run_bare(variants, threads, ready[1], stop[0]);
    run_ragd(threads, which == RAGD_LOGGING, ready[1], stop[0]);
  }
  close(ready[1]);
  close(stop[0]);
  s.stop = stop[1];
  if (read(ready[0], &s.port, sizeof(s.port)) != sizeof(s.port)) die("a server did not start");
  close(ready[0]);
  if (clock_getcpuclockid(s.pid, &s.clock) != 0) die("clock_getcpuclockid");
  dial(&s);
  return s;
}

static void halt(server *s) {
  for (int i = 0; i < CONNECTIONS; i++) close(s->fds[i]);
  close(s->stop);
  waitpid(s->pid, NULL, 0);
}

static uint64_t cpu_ns(const server *s) {
  struct timespec t;
  if (clock_gettime(s->clock, &t) != 0) die("clock_gettime");
  return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

static void send_all(int fd, const rag_buf *bytes) {
  if (send(fd, bytes->data, bytes->size, MSG_NOSIGNAL) != (ssize_t)bytes->size) die("send");
}

// One answer into `into` (its body starts at the returned offset); dies unless it is a 200.
static size_t receive(int fd, char *into, size_t *size) {
  size_t got = 0, want = SIZE_MAX, head = 0;
  while (got < want) {
    // The client spins. Were it asleep, the server would pay for waking it: for every answer where the server is slower
    // than the client, for few where it is faster, which adds to one side of the ratio alone. "sleep" shows by how much.
    ssize_t n = recv(fd, into + got, ANSWER_MAX - got - 1, client_sleeps ? 0 : MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) continue;
    if (n <= 0) die("recv");
    got += (size_t)n;
    into[got] = '\0';
    if (want != SIZE_MAX) continue;
    const char *end = strstr(into, "\r\n\r\n"), *length = strcasestr(into, "\r\nContent-Length:");
    if (!end) continue;
    head = (size_t)(end - into) + 4;
    if (strncmp(into, "HTTP/1.1 200", 12) != 0 || !length) {
      fprintf(stderr, "http_overhead: %.600s\n", into);
      exit(1);
    }
    want = head + strtoull(length + 17, NULL, 10);
  }
  *size = got;
  return head;
}

static void learn_answer(const server *s, variant *v) {
  static char bytes[ANSWER_MAX];
  size_t size = 0;
  send_all(s->fds[0], &v->request);
  size_t head = receive(s->fds[0], bytes, &size);
  const char *type = strcasestr(bytes, "\r\nContent-Type: ");
  if (type) snprintf(v->answer_type, sizeof(v->answer_type), "%.*s", (int)strcspn(type + 16, "\r"), type + 16);
  rag_buf_append(&v->answer, bytes + head, size - head);
}

// CPU nanoseconds of the server per request.
static double round_of(const server *s, const rag_buf *request, unsigned requests) {
  static char bytes[ANSWER_MAX];
  size_t size = 0;
  uint64_t before = cpu_ns(s);
  for (unsigned done = 0; done < requests; done += CONNECTIONS) {
    for (int i = 0; i < CONNECTIONS; i++) send_all(s->fds[i], request);
    for (int i = 0; i < CONNECTIONS; i++) receive(s->fds[i], bytes, &size);
  }
  return (double)(cpu_ns(s) - before) / requests;
}

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

typedef struct summary {
  double median, least, p90;
} summary;

static summary summarise(double *values, unsigned count) {
  qsort(values, count, sizeof(*values), by_value);
  return (summary){values[count / 2] / 1000, values[0] / 1000, values[count * 9 / 10] / 1000};
}

static void measure(const server servers[3], const variant *v, int index, unsigned rounds, unsigned requests,
                    bool last) {
  static double cpu[3][ROUNDS_MAX], ratios[2][ROUNDS_MAX];
  rag_buf plain = {0}; // to the bare server: the same bytes, but a path of the same length that picks the answer
  rag_buf_append(&plain, v->request.data, v->request.size);
  char *path = strchr(plain.data, '/');
  memset(path + 1, '0' + index, strlen(v->path) - 1);
  const rag_buf *request[3] = {&v->request, &v->request, &plain};
  for (unsigned r = 0; r < rounds + 3; r++) // three to warm up
    for (int s = 0; s < 3; s++) cpu[s][r < 3 ? 0 : r - 3] = round_of(&servers[s], request[s], requests);
  for (unsigned r = 0; r < rounds; r++)
    for (int s = 0; s < 2; s++) ratios[s][r] = cpu[s][r] / cpu[BARE][r] * 1000;
  summary of[3], ratio[2];
  for (int s = 0; s < 3; s++) of[s] = summarise(cpu[s], rounds);
  for (int s = 0; s < 2; s++) ratio[s] = summarise(ratios[s], rounds);
  printf("  {\"name\": \"%s\", \"request_bytes\": %zu, \"answer_bytes\": %zu,\n", v->name, v->request.size,
         v->answer.size);
  const char *names[] = {"ragd", "ragd_access_log", "bare"};
  for (int s = 0; s < 3; s++)
    printf("   \"%s\": {\"median_us\": %.3f, \"least_us\": %.3f, \"p90_us\": %.3f},\n", names[s], of[s].median,
           of[s].least, of[s].p90);
  printf("   \"ratio\": %.3f, \"ratio_access_log\": %.3f, \"ratio_of_least\": %.3f}%s\n", ratio[0].median,
         ratio[1].median, of[RAGD].least / of[BARE].least, last ? "" : ",");
  rag_buf_free(&plain);
}

int main(int argc, char **argv) {
  unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 101;
  unsigned requests = argc > 2 ? (unsigned)atoi(argv[2]) : 2000;
  unsigned threads = argc > 3 ? (unsigned)atoi(argv[3]) : 1;
  client_sleeps = argc > 4 && strcmp(argv[4], "sleep") == 0;
  if (rounds < 1 || rounds > ROUNDS_MAX || requests < CONNECTIONS || threads < 1) {
    fprintf(stderr, "usage: %s [rounds [requests-a-round [network-threads [spin|sleep]]]]\n", argv[0]);
    return 2;
  }
  requests -= requests % CONNECTIONS;
  variant variants[3];
  server servers[3];
  make_variants(variants);
  servers[RAGD] = launch(RAGD, NULL, threads);
  servers[RAGD_LOGGING] = launch(RAGD_LOGGING, NULL, threads);
  for (int i = 0; i < 3; i++) learn_answer(&servers[RAGD], &variants[i]);
  servers[BARE] = launch(BARE, variants, threads);
  printf("{\"rounds\": %u, \"requests_a_round\": %u, \"connections\": %d, \"network_threads\": %u, \"client\": \"%s\", "
         "\"microhttpd\": \"%s\",\n",
         rounds, requests, CONNECTIONS, threads, client_sleeps ? "sleeps" : "spins", MHD_get_version());
  printf(" \"documents\": %d, \"dimension\": %d, \"results\": [\n", DOCUMENTS, DIMENSION);
  for (int i = 0; i < 3; i++) measure(servers, &variants[i], i, rounds, requests, i == 2);
  printf(" ]}\n");
  // Newest first: a server holds copies of the descriptors of those started before it.
  for (int s = 2; s >= 0; s--) halt(&servers[s]);
  for (int i = 0; i < 3; i++) {
    rag_buf_free(&variants[i].body);
    rag_buf_free(&variants[i].request);
    rag_buf_free(&variants[i].answer);
  }
  return 0;
}
