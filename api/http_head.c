// What the head of a request may look like, beyond what libmicrohttpd looks at.
//
// The walk. libmicrohttpd 0.9.75 parses a head where it lies: it puts a NUL at the end of each part and hands out C
// strings. So a NUL that the client sent cuts a part short in silence ("/v1/kbs/a\0b" becomes "/v1/kbs/a", a length of
// "1\0" "00" becomes 1), and a blank before a colon makes a header of another name ("Content-Length "), while a proxy
// before us may have read on, or have left out the blank. The parts still lie where they came: so we go from each to the
// next, and what lies between must be what the format has there and nothing else. From 1.0 on libmicrohttpd refuses such
// heads itself, and does not say where it keeps the parts.
#include "api/http_internal.h"

bool http_request_id_sane(const char *id) {
  size_t size = 0;
  if (!id) return false;
  for (; id[size]; size++)
    if (size == HTTP_REQUEST_ID_MAX || id[size] <= ' ' || id[size] > '~') return false;
  return size > 0;
}

bool http_target_sane(const char *target, bool options) {
  if (target[0] != '/' && !(options && strcmp(target, "*") == 0)) return false;
  for (const unsigned char *p = (const unsigned char *)target; *p; p++)
    if (*p <= ' ' || *p >= 0x7f) return false;
  return true;
}

#define HEAD_BYTES_MAX ((size_t)HTTP_HEADER_BYTES_MAX * 2) // farther apart they are not of one head

// From `from` to `to` in one head, and all NULs: the line's end, which libmicrohttpd has overwritten.
static bool is_line_end(const char *from, const char *to) {
  uintptr_t first = (uintptr_t)from, last = (uintptr_t)to;
  if (last <= first || last - first > 2) return false; // CR LF, or LF
  for (const char *p = from; p < to; p++)
    if (*p != '\0') return false;
  return true;
}

static bool is_blank(const char *from, const char *to) {
  uintptr_t first = (uintptr_t)from, last = (uintptr_t)to;
  if (last < first || last - first > HEAD_BYTES_MAX) return false;
  for (const char *p = from; p < to; p++)
    if (*p != ' ' && *p != '\t') return false;
  return true;
}

void http_walk_begin(http_walk *walk, const char *method, const char *target, size_t target_size, const char *version) {
  if (!target) return; // refused in any case
  walk->hidden = method + strlen(method) + 1 != target || target + target_size + 1 != version;
  walk->end = version + strlen(version);
}

void http_walk_header(http_walk *walk, const char *name, size_t name_size, const char *value) {
  if (name_size == 0 || name[name_size - 1] == ' ' || name[name_size - 1] == '\t') walk->hidden = true;
  if (!walk->end || walk->hidden) return;
  const char *colon = name + name_size; // a NUL by now
  walk->hidden = !is_line_end(walk->end, name) || strlen(name) != name_size || !value || !is_blank(colon + 1, value);
  if (value) walk->end = value + strlen(value);
}

void http_walk_end(http_walk *walk, const char *end) {
  if (!walk->end || walk->hidden) return;
  uintptr_t first = (uintptr_t)walk->end, last = (uintptr_t)end;
  walk->hidden = last <= first || last - first > 4; // the last part's line end, and the empty line
  for (const char *p = walk->end; !walk->hidden && p < end; p++) walk->hidden = *p != '\0';
}
