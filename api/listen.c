// Where the server listens: parsing the address, what counts as loopback, sockets that share a port, the endpoint file.
//
// Sharing: each network thread has a listening socket of its own with SO_REUSEPORT, so the kernel spreads connections and
// no two threads race to accept one. But SO_REUSEPORT also lets a second server of the same user take the same port, and
// half of the connections, in silence. So the first socket is bound without it, which fails when anybody holds the
// address; only then is the option set on it, and the others join. Nobody can come between, as the first socket keeps
// the port all the while.
//
// Endpoint file: DIR/ENDPOINT holds the URL and a newline; it is how ragctl finds the server that holds DIR.
#include "api/http_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <unistd.h>

#define LISTEN_BACKLOG 1024
#define ADDRESS_TEXT_MAX 64u

static rag_status bad_address(const char *text, rag_error *err) {
  return rag_fail_field(err, RAG_INVALID_ARGUMENT, "listen",
                        "'%.64s' is no address to listen on; give a numeric address and a port, as in 127.0.0.1:7700, "
                        "[::1]:7700 or localhost:7700",
                        text);
}

static bool parse_port(const char *text, uint16_t *out) {
  size_t size = strlen(text);
  if (size == 0 || size > 5) return false;
  uint32_t port = 0;
  for (size_t i = 0; i < size; i++) {
    if (text[i] < '0' || text[i] > '9') return false;
    port = port * 10 + (uint32_t)(text[i] - '0');
  }
  if (port > UINT16_MAX) return false;
  *out = (uint16_t)port;
  return true;
}

static bool loopback4(uint32_t host_order) {
  return host_order >> 24 == 127;
}

static bool loopback6(const struct in6_addr *address) {
  if (IN6_IS_ADDR_LOOPBACK(address)) return true;
  return IN6_IS_ADDR_V4MAPPED(address) && address->s6_addr[12] == 127;
}

rag_status http_address_parse(const char *text, http_address *out, rag_error *err) {
  if (!text) return bad_address("", err);
  const char *colon = strrchr(text, ':');
  uint16_t port = 0;
  if (!colon || !parse_port(colon + 1, &port)) return bad_address(text, err);
  const char *host = text;
  size_t host_size = (size_t)(colon - text);
  bool brackets = host_size >= 2 && host[0] == '[' && host[host_size - 1] == ']';
  if (brackets) {
    host++;
    host_size -= 2;
  }
  char name[ADDRESS_TEXT_MAX];
  if (host_size == 0 || host_size >= sizeof(name)) return bad_address(text, err);
  memcpy(name, host, host_size);
  name[host_size] = '\0';
  if (!brackets && strcmp(name, "localhost") == 0) memcpy(name, "127.0.0.1", sizeof("127.0.0.1"));

  http_address address = {0};
  if (brackets) {
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&address.storage;
    if (inet_pton(AF_INET6, name, &in6->sin6_addr) != 1) return bad_address(text, err);
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons(port);
    address.size = sizeof(*in6);
    address.loopback = loopback6(&in6->sin6_addr);
  } else {
    struct sockaddr_in *in = (struct sockaddr_in *)&address.storage;
    if (inet_pton(AF_INET, name, &in->sin_addr) != 1) return bad_address(text, err);
    in->sin_family = AF_INET;
    in->sin_port = htons(port);
    address.size = sizeof(*in);
    address.loopback = loopback4(ntohl(in->sin_addr.s_addr));
  }
  *out = address;
  return RAG_OK;
}

static void address_text(const http_address *address, char *out, size_t size, uint16_t *port) {
  char host[INET6_ADDRSTRLEN] = "?";
  if (address->storage.ss_family == AF_INET6) {
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&address->storage;
    inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
    snprintf(out, size, "[%s]", host);
    *port = ntohs(in6->sin6_port);
  } else {
    const struct sockaddr_in *in = (const struct sockaddr_in *)&address->storage;
    inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));
    snprintf(out, size, "%s", host);
    *port = ntohs(in->sin_port);
  }
}

void http_address_url(const http_address *address, bool tls, char *out, size_t size) {
  char host[ADDRESS_TEXT_MAX];
  uint16_t port = 0;
  address_text(address, host, sizeof(host), &port);
  // "All addresses" is no place to connect to.
  if (strcmp(host, "0.0.0.0") == 0) memcpy(host, "127.0.0.1", sizeof("127.0.0.1"));
  if (strcmp(host, "[::]") == 0) memcpy(host, "[::1]", sizeof("[::1]"));
  snprintf(out, size, "%s://%s:%u", tls ? "https" : "http", host, (unsigned)port);
}

static rag_status set_option(int fd, int level, int name, const char *what, rag_error *err) {
  int on = 1;
  if (setsockopt(fd, level, name, &on, sizeof(on)) != 0) return rag_os_fail(err, "setsockopt", what, errno);
  return RAG_OK;
}

static rag_status bind_failed(const http_address *address, int error_number, rag_error *err) {
  char host[ADDRESS_TEXT_MAX];
  uint16_t port = 0;
  address_text(address, host, sizeof(host), &port);
  if (error_number == EADDRINUSE)
    return rag_fail_field(err, RAG_FAILED_PRECONDITION, "listen",
                          "%s:%u is taken by another program; stop it, or listen on another port (port 0 picks a free "
                          "one)",
                          host, (unsigned)port);
  if (error_number == EADDRNOTAVAIL)
    return rag_fail_field(err, RAG_FAILED_PRECONDITION, "listen", "this machine has no address %s", host);
  if (error_number == EACCES)
    return rag_fail_field(err, RAG_PERMISSION_DENIED, "listen", "no permission to listen on port %u", (unsigned)port);
  return rag_os_fail(err, "bind", host, error_number);
}

// Options that do not concern sharing. TCP_NODELAY is inherited by accepted sockets.
static rag_status open_socket(const http_address *address, int *out, rag_error *err) {
  rag_status status = RAG_OK;
  int fd = socket(address->storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return rag_os_fail(err, "socket", "", errno);
  // Without it a restart fails for a minute while old connections are in TIME_WAIT; it does not share a listening port.
  RAG_TRY_OUT(set_option(fd, SOL_SOCKET, SO_REUSEADDR, "SO_REUSEADDR", err));
  RAG_TRY_OUT(set_option(fd, IPPROTO_TCP, TCP_NODELAY, "TCP_NODELAY", err));
  // [::] means IPv6 alone, whatever the machine's default is.
  if (address->storage.ss_family == AF_INET6)
    RAG_TRY_OUT(set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, "IPV6_V6ONLY", err));
  *out = fd;
  fd = -1;
out:
  if (fd >= 0) close(fd);
  return status;
}

static rag_status open_first(http_address *address, bool shared, int *out, rag_error *err) {
  rag_status status = RAG_OK;
  int fd = -1;
  RAG_TRY(open_socket(address, &fd, err));
  if (bind(fd, (const struct sockaddr *)&address->storage, address->size) != 0) {
    status = bind_failed(address, errno, err);
    goto out;
  }
  // Two sockets may be bound to one port with SO_REUSEADDR as long as neither listens: the port is ours only now.
  if (listen(fd, LISTEN_BACKLOG) != 0) {
    status = bind_failed(address, errno, err);
    goto out;
  }
  if (shared) RAG_TRY_OUT(set_option(fd, SOL_SOCKET, SO_REUSEPORT, "SO_REUSEPORT", err));
  socklen_t size = sizeof(address->storage);
  if (getsockname(fd, (struct sockaddr *)&address->storage, &size) != 0) {
    status = rag_os_fail(err, "getsockname", "", errno);
    goto out;
  }
  *out = fd;
  fd = -1;
out:
  if (fd >= 0) close(fd);
  return status;
}

static rag_status open_next(const http_address *address, int *out, rag_error *err) {
  rag_status status = RAG_OK;
  int fd = -1;
  RAG_TRY(open_socket(address, &fd, err));
  RAG_TRY_OUT(set_option(fd, SOL_SOCKET, SO_REUSEPORT, "SO_REUSEPORT", err));
  if (bind(fd, (const struct sockaddr *)&address->storage, address->size) != 0 || listen(fd, LISTEN_BACKLOG) != 0) {
    status = bind_failed(address, errno, err);
    goto out;
  }
  *out = fd;
  fd = -1;
out:
  if (fd >= 0) close(fd);
  return status;
}

rag_status http_listen(http_address *address, unsigned count, int *fds, rag_error *err) {
  rag_status status = RAG_OK;
  unsigned opened = 0;
  RAG_TRY_OUT(open_first(address, count > 1, &fds[0], err));
  for (opened = 1; opened < count; opened++) RAG_TRY_OUT(open_next(address, &fds[opened], err));
out:
  if (status != RAG_OK)
    for (unsigned i = 0; i < opened; i++) close(fds[i]);
  return status;
}

// ---------------------------------------------------------------------------------------------- the endpoint file

static char *endpoint_path(const char *data_dir) {
  size_t size = strlen(data_dir) + sizeof("/" HTTP_ENDPOINT_FILE);
  char *path = rag_alloc(size);
  if (path) snprintf(path, size, "%s/" HTTP_ENDPOINT_FILE, data_dir);
  return path;
}

rag_status http_endpoint_write(const char *data_dir, const char *url, rag_error *err) {
  char line[128];
  int size = snprintf(line, sizeof(line), "%s\n", url);
  char *path = endpoint_path(data_dir);
  if (!path) return rag_fail_no_memory(err, strlen(data_dir));
  rag_status status = rag_os_write_file(path, line, (size_t)size, err);
  rag_free(path);
  return status;
}

void http_endpoint_remove(const char *data_dir, const char *url) {
  char *text = NULL;
  size_t size = 0;
  char *path = endpoint_path(data_dir);
  if (path && rag_os_read_file(path, 128, &text, &size, NULL) == RAG_OK) {
    size_t length = strlen(url);
    if (size == length + 1 && memcmp(text, url, length) == 0) unlink(path);
  }
  rag_free(text);
  rag_free(path);
}
