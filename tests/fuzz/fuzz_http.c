// Goal: no bytes on a connection make the HTTP server crash, hang, or see another request than is there: requests that
// nobody can misread are answered each by itself, with their own method, target and body; heads that others could read
// as something else are refused and end the connection.
// Method: the real server on a free port, with a dispatcher in place of ours that answers with what it was given. The
// input is what a client sends, then it closes its side. A strict reader of our own splits off the requests of which
// there is only one reading, and says of the first that is none whether it must be refused.
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "api/api_internal.h"
#include "tests/fuzz/fuzz.h"

#define REQUESTS_MAX 32u
#define HEADERS_MAX 32u
#define PATIENCE_S 20
#define TAIL_MS 3 // for answers that need not come

// ---------------------------------------------------------------------------------------------- the dispatcher

static void echo(const rag_api_request *request, rag_slice body, rag_arena *arena, rag_api_response *out) {
  const char *head = rag_arena_printf(arena, "%s %s %zu:", request->method, request->target, body.size);
  size_t size = strlen(head);
  char *text = rag_arena_alloc(arena, size + body.size + 1);
  REQUIRE(text != NULL);
  memcpy(text, head, size);
  if (body.size > 0) memcpy(text + size, body.data, body.size);
  *out = (rag_api_response){.http_status = 200, .content_type = "text/plain", .route = "Echo"};
  out->body = rag_slice_of(text, size + body.size);
}

static bool begins(const char *target, const char *with) {
  return strncmp(target, with, strlen(with)) == 0;
}

rag_status rag_api_admit(rag_api *api, const rag_api_request *request, rag_arena *arena, rag_api_lane *lane,
                         rag_api_response *out) {
  RAG_UNUSED(api);
  RAG_UNUSED(arena);
  RAG_UNUSED(out);
  *lane = begins(request->target, "/pool") ? RAG_LANE_POOL
          : begins(request->target, "/in") ? RAG_LANE_STREAM
                                           : RAG_LANE_INLINE;
  return RAG_OK;
}

void rag_api_handle(rag_api *api, const rag_api_request *request, rag_arena *arena, rag_api_response *out) {
  RAG_UNUSED(api);
  echo(request, request->body, arena, out);
}

void rag_api_stream(rag_api *api, const rag_api_request *request, rag_arena *arena, rag_read_fn read, void *read_ctx,
                    rag_write_fn write, void *write_ctx, rag_api_response *out) {
  RAG_UNUSED(api);
  RAG_UNUSED(write);
  RAG_UNUSED(write_ctx);
  rag_buf body = {0};
  char block[777];
  size_t size = 0;
  while (read(read_ctx, block, sizeof block, &size, NULL) == RAG_OK && size > 0) rag_buf_append(&body, block, size);
  echo(request, rag_buf_slice(&body), arena, out);
  rag_buf_free(&body);
}

bool rag_api_has_keys(rag_api *api) {
  RAG_UNUSED(api);
  return true;
}

void rag_api__error_answer(const rag_error *err, rag_slice details, bool rpc, rag_arena *arena, rag_api_response *out) {
  RAG_UNUSED(details);
  RAG_UNUSED(rpc);
  *out = (rag_api_response){.http_status = 400, .content_type = "application/json", .status = err->status};
  out->body = rag_slice_str(rag_arena_printf(arena, "{\"code\":\"%s\"}", rag_status_name(err->status)));
}

static rag_api api;
static rag_server *server;

static void end(void) {
  rag_server_stop(server, 5000);
  fuzz_dir_remove();
}

static void begin(void) {
  static char dir[300];
  rag_error err = {0};
  rag_server_options options = rag_server_options_default();
  options.listen = "127.0.0.1:0";
  options.network_threads = 1;
  options.worker_threads = 16; // a stream that has just ended may still hold its place
  options.access_log = false;
  snprintf(dir, sizeof dir, "%s", fuzz_dir());
  api.data_dir = dir;
  rag_log_setup(2, RAG_LOG_ERROR, RAG_LOG_TEXT);
  REQUIRE_OK(rag_server_start(&api, &options, &server, &err));
  atexit(end);
}

// ---------------------------------------------------------------------------------------------- the strict reader

typedef enum verdict { CLEAN, UNCLEAR, HOSTILE, TOO_SHORT } verdict;
typedef struct wanted {
  rag_buf answers[REQUESTS_MAX];
  size_t count;
  verdict end; // of what follows them
} wanted;

static bool is_token(rag_slice s) {
  for (size_t i = 0; i < s.size; i++)
    if (!isalnum((unsigned char)s.data[i]) && s.data[i] != '-' && s.data[i] != '_') return false;
  return s.size > 0;
}

static bool is_printable(rag_slice s, char from) {
  for (size_t i = 0; i < s.size; i++)
    if (s.data[i] < from || s.data[i] > '~') return false;
  return true;
}

static bool take_line(rag_slice *rest, rag_slice *line) { // up to CR LF
  const char *end = rest->size > 0 ? memmem(rest->data, rest->size, "\r\n", 2) : NULL;
  if (end == NULL) return false;
  *line = rag_slice_of(rest->data, (size_t)(end - rest->data));
  *rest = rag_slice_of(end + 2, rest->size - line->size - 2);
  return true;
}

static bool name_is(rag_slice name, const char *text) {
  return name.size == strlen(text) && strncasecmp(name.data, text, name.size) == 0;
}

static bool read_number(rag_slice digits, int base, size_t *out) {
  char text[8], *end = NULL;
  if (digits.size == 0 || digits.size >= sizeof text) return false;
  memcpy(text, digits.data, digits.size);
  text[digits.size] = '\0';
  if (!isxdigit((unsigned char)text[0])) return false;
  *out = strtoul(text, &end, base);
  return *end == '\0' && (text[1] != 'x' && text[1] != 'X');
}

typedef struct head {
  rag_slice method, target;
  size_t length;
  bool chunked;
} head;

// The headers of a head, whose lines are told apart already.
static verdict read_headers(rag_slice lines, head *out) {
  rag_slice names[HEADERS_MAX], line;
  size_t count = 0;
  unsigned framed = 0;
  verdict found = CLEAN;
  bool host = false;
  while (take_line(&lines, &line)) {
    if (line.data[0] == ' ' || line.data[0] == '\t') return HOSTILE; // a folded line
    const char *colon = memchr(line.data, ':', line.size);
    if (colon == NULL || count == HEADERS_MAX) return UNCLEAR;
    rag_slice name = {line.data, (size_t)(colon - line.data)}, value = {colon + 1, line.size - name.size - 1};
    if (name.size > 0 && (name.data[name.size - 1] == ' ' || name.data[name.size - 1] == '\t')) return HOSTILE;
    while (value.size > 0 && value.data[0] == ' ') value = rag_slice_of(value.data + 1, value.size - 1);
    if (!is_token(name) || !is_printable(value, ' ') || (value.size > 0 && value.data[value.size - 1] == ' '))
      found = UNCLEAR;
    for (size_t i = 0; i < count; i++)
      if (names[i].size == name.size && strncasecmp(names[i].data, name.data, name.size) == 0) found = UNCLEAR;
    names[count++] = name;
    host = host || name_is(name, "host");
    if (name_is(name, "content-length")) {
      framed++;
      if (!read_number(value, 10, &out->length)) found = UNCLEAR;
    } else if (name_is(name, "transfer-encoding")) {
      framed++;
      out->chunked = true;
      if (!rag_slice_equal(value, rag_slice_str("chunked"))) found = UNCLEAR;
    } else if (name_is(name, "connection") || name_is(name, "upgrade") || name_is(name, "expect") ||
               name_is(name, "connect-timeout-ms") || name_is(name, "proxy-connection") ||
               name_is(name, "keep-alive")) {
      found = UNCLEAR;
    }
  }
  if (framed > 1 && found != UNCLEAR) return HOSTILE;
  return host ? found : UNCLEAR;
}

// A line end that is not CR LF divides lines for some readers.
static bool has_bare_line_end(rag_slice s) {
  for (size_t i = 0; i < s.size; i++)
    if ((s.data[i] == '\n' && (i == 0 || s.data[i - 1] != '\r')) ||
        (s.data[i] == '\r' && i + 1 < s.size && s.data[i + 1] != '\n'))
      return true;
  return false;
}

static verdict read_head(rag_slice *rest, head *out) {
  static const char *const methods[] = {"GET", "POST", "PUT", "PATCH", "DELETE"};
  const char *last = rest->size > 0 ? memmem(rest->data, rest->size, "\r\n\r\n", 4) : NULL;
  if (last == NULL) return has_bare_line_end(*rest) ? UNCLEAR : TOO_SHORT;
  rag_slice all = {rest->data, (size_t)(last - rest->data) + 2}, line;
  bool known = false;
  *out = (head){0};
  *rest = rag_slice_of(last + 4, rest->size - all.size - 2);
  rag_slice lines = all;
  if (!take_line(&lines, &line)) return UNCLEAR;
  const char *space = memchr(line.data, ' ', line.size);
  if (space == NULL || line.size < 12 || memcmp(line.data + line.size - 9, " HTTP/1.1", 9) != 0) return UNCLEAR;
  out->method = rag_slice_of(line.data, (size_t)(space - line.data));
  if (space + 1 > line.data + line.size - 9) return UNCLEAR;
  out->target = rag_slice_of(space + 1, (size_t)(line.data + line.size - 9 - space - 1));
  for (size_t i = 0; i < RAG_COUNT_OF(methods); i++)
    known = known || rag_slice_equal(out->method, rag_slice_str(methods[i]));
  if (!known || out->target.size == 0 || out->target.data[0] != '/' || !is_printable(out->target, '!') ||
      out->target.size > 2000 || all.size > 6000)
    return UNCLEAR;
  if (has_bare_line_end(all)) return UNCLEAR;
  if (memchr(all.data, '\0', all.size) != NULL) return HOSTILE;
  return read_headers(lines, out);
}

static verdict read_body(rag_slice *rest, const head *h, rag_buf *out) {
  if (!h->chunked) {
    if (rest->size < h->length) return TOO_SHORT;
    rag_buf_append(out, rest->data, h->length);
    *rest = rag_slice_of(rest->data + h->length, rest->size - h->length);
    return CLEAN;
  }
  for (;;) {
    rag_slice line;
    size_t size = 0;
    if (!take_line(rest, &line)) return UNCLEAR;
    if (!read_number(line, 16, &size)) return UNCLEAR;
    if (rest->size < size + 2) return UNCLEAR;
    if (rest->data[size] != '\r' || rest->data[size + 1] != '\n') return UNCLEAR; // also: trailers
    rag_buf_append(out, rest->data, size);
    *rest = rag_slice_of(rest->data + size + 2, rest->size - size - 2);
    if (size == 0) return CLEAN;
  }
}

static void read_strictly(rag_slice rest, wanted *out) {
  *out = (wanted){.end = TOO_SHORT};
  while (out->count < REQUESTS_MAX) {
    head h;
    rag_buf body = {0};
    out->end = read_head(&rest, &h);
    if (out->end == CLEAN) out->end = read_body(&rest, &h, &body);
    if (out->end == CLEAN) {
      rag_buf *answer = &out->answers[out->count++];
      rag_buf_printf(answer, "%.*s %.*s %zu:", (int)h.method.size, h.method.data, (int)h.target.size, h.target.data,
                     body.size);
      rag_buf_append(answer, body.data, body.size);
    }
    rag_buf_free(&body);
    if (out->end != CLEAN) return;
  }
  out->end = UNCLEAR;
}

// ---------------------------------------------------------------------------------------------- the client

typedef struct client {
  int fd;
  rag_buf got;
  size_t at;
  bool hasty; // who does not answer soon does not answer
} client;

static client dial(void) {
  struct sockaddr_in to = {.sin_family = AF_INET};
  const struct timeval patience = {.tv_sec = PATIENCE_S};
  const struct linger reset = {1, 0}; // no port is left waiting
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  to.sin_port = htons((uint16_t)atoi(strrchr(rag_server_url(server), ':') + 1));
  client c = {.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  REQUIRE(c.fd >= 0 && setsockopt(c.fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) == 0);
  REQUIRE(setsockopt(c.fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset) == 0);
  REQUIRE(connect(c.fd, (struct sockaddr *)&to, sizeof to) == 0);
  return c;
}

// False: the server has closed.
static bool receive(client *c) {
  rag_buf_reserve(&c->got, 65536);
  REQUIRE(!c->got.failed);
  ssize_t got = recv(c->fd, c->got.data + c->got.size, 65536, 0);
  REQUIRE(got >= 0 || c->hasty || (errno != EAGAIN && errno != EWOULDBLOCK)); // else: it hangs
  if (got > 0) c->got.size += (size_t)got;
  return got > 0;
}

// The next final answer: its status and body; 0: the server has closed before one.
static int read_answer(client *c, rag_slice *body) {
  for (;;) {
    const char *start = c->got.size > c->at ? c->got.data + c->at : "";
    const char *last = c->got.size > c->at ? memmem(start, c->got.size - c->at, "\r\n\r\n", 4) : NULL;
    if (last == NULL) {
      if (receive(c)) continue;
      return 0; // a part of a head may have come before a reset
    }
    size_t size = (size_t)(last + 4 - start);
    char text[4096];
    REQUIRE(size < sizeof text);
    memcpy(text, start, size);
    text[size] = '\0';
    REQUIRE(strncmp(text, "HTTP/1.", 7) == 0 && strlen(text) == size);
    int status = atoi(text + 9);
    REQUIRE(status >= 100 && status < 600);
    if (status < 200) {
      c->at += size;
      continue;
    }
    const char *length = strcasestr(text, "\r\nContent-Length: ");
    size_t body_size = length != NULL ? strtoul(length + 18, NULL, 10) : 0;
    if (c->got.size - c->at - size < body_size) {
      if (receive(c)) continue;
      return 0;
    }
    *body = rag_slice_of(c->got.data + c->at + size, body_size);
    c->at += size + body_size;
    return status;
  }
}

// What comes after the answers to clean requests. It is not read as answers: of HEAD there is no body, and libmicrohttpd
// sends the head of its own refusals twice.
static void require_tail(rag_slice tail, verdict end) {
  if (tail.size < 12) return; // nothing, or what came before a reset
  REQUIRE(memcmp(tail.data, "HTTP/1.", 7) == 0);
  if (end == HOSTILE || end == TOO_SHORT) {
    REQUIRE(tail.data[9] == '4' || tail.data[9] == '1' || memcmp(tail.data + 9, "505", 3) == 0);
    REQUIRE(memmem(tail.data, tail.size, "HTTP/1.1 2", 10) == NULL);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  wanted w;
  rag_slice body = {0};
  if (server == NULL) begin();
  if (size > 60000) return 0; // fits into the sockets' buffers: we write first and read then
  read_strictly(rag_slice_of(data, size), &w);
  client c = dial();
  if (size > 0) (void)!send(c.fd, data, size, MSG_NOSIGNAL);
  for (size_t i = 0; i < w.count; i++) {
    REQUIRE(read_answer(&c, &body) == 200);
    REQUIRE(rag_slice_equal(body, rag_buf_slice(&w.answers[i])));
    rag_buf_free(&w.answers[i]);
  }
  if (w.end != HOSTILE) { // else the server ends the connection, whether or not our side is open
    const struct timeval soon = {.tv_usec = TAIL_MS * 1000};
    c.hasty = setsockopt(c.fd, SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof soon) == 0;
    (void)shutdown(c.fd, SHUT_WR);
  }
  while (receive(&c)) continue;
  if (c.got.size > c.at) require_tail(rag_slice_of(c.got.data + c.at, c.got.size - c.at), w.end);
  close(c.fd);
  rag_buf_free(&c.got);
  return 0;
}
