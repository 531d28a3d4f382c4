// Says what is wrong with a text that the fast parser has refused: the parser tells a kind of error and no place.
//
// A second reader of the same grammar (RFC 8259 with the limits of json.h), a byte at a time, for error answers only:
// its cost is paid by the sender of a bad text, once. It decides nothing: where it finds no fault the parser's word
// stands.
//
// Recursion is bounded by RAG_JSON_DEPTH_MAX.
//
// Threads: pure functions.
#include "base/json_internal.h"
#include "base/json_shim.h"

#include <stdio.h>

typedef struct step { // from a container to the value in it that is being read
  bool in_object;
  rag_slice name; // raw: escapes are left as they are
  size_t index;
} step;

typedef struct scan {
  const char *text;
  size_t size;
  size_t at;
  const char *reason; // NULL while nothing is wrong
  unsigned depth;     // containers open
  step steps[RAG_JSON_DEPTH_MAX + 1];
} scan;

void rag_base__json_path_name(rag_base__json_path *path, rag_slice name) {
  size_t used = strlen(path->text);
  size_t shown = rag_utf8_floor(name.data, name.size, RAG_MIN(name.size, (size_t)64));
  snprintf(path->text + used, sizeof(path->text) - used, "%s%.*s", used ? "." : "", (int)shown,
           name.size ? name.data : "");
}

void rag_base__json_path_index(rag_base__json_path *path, size_t index) {
  size_t used = strlen(path->text);
  snprintf(path->text + used, sizeof(path->text) - used, "[%zu]", index);
}

static bool fail_at(scan *s, size_t at, const char *reason) {
  s->at = at;
  s->reason = reason;
  return false;
}

static void skip_space(scan *s) {
  while (s->at < s->size) {
    char c = s->text[s->at];
    if (c != ' ' && c != '\t' && c != '\n' && c != '\r') return;
    s->at++;
  }
}

// The next byte, or -1 at the end.
static int peek(const scan *s) {
  return s->at < s->size ? (unsigned char)s->text[s->at] : -1;
}

static bool is_digit(int c) {
  return c >= '0' && c <= '9';
}

static bool scan_word(scan *s, const char *word) {
  size_t size = strlen(word);
  if (s->size - s->at < size || memcmp(s->text + s->at, word, size) != 0)
    return fail_at(s, s->at, "expected a value: a string in double quotes, a number, true, false, null, [ or {");
  s->at += size;
  return true;
}

// The four hexadecimal digits at `at`, or UINT32_MAX.
static uint32_t hex4(const scan *s, size_t at) {
  if (s->size - at < 4) return UINT32_MAX;
  uint32_t v = 0;
  for (size_t i = 0; i < 4; i++) {
    char c = s->text[at + i];
    uint32_t digit;
    if (c >= '0' && c <= '9') digit = (uint32_t)(c - '0');
    else if (c >= 'a' && c <= 'f') digit = (uint32_t)(c - 'a') + 10;
    else if (c >= 'A' && c <= 'F') digit = (uint32_t)(c - 'A') + 10;
    else return UINT32_MAX;
    v = v << 4 | digit;
  }
  return v;
}

// s->at is at the 'u' of "\u".
static bool scan_unicode_escape(scan *s) {
  size_t escape = s->at - 1;
  uint32_t code = hex4(s, s->at + 1);
  if (code == UINT32_MAX) return fail_at(s, escape, "\\u wants four hexadecimal digits");
  s->at += 5;
  if (code >= 0xDC00 && code <= 0xDFFF) return fail_at(s, escape, "half of a surrogate pair");
  if (code < 0xD800 || code > 0xDBFF) return true;
  if (s->size - s->at < 6 || s->text[s->at] != '\\' || s->text[s->at + 1] != 'u')
    return fail_at(s, escape, "half of a surrogate pair");
  uint32_t low = hex4(s, s->at + 2);
  if (low == UINT32_MAX || low < 0xDC00 || low > 0xDFFF) return fail_at(s, escape, "half of a surrogate pair");
  s->at += 6;
  return true;
}

// s->at is at the opening quote; *out (may be NULL) is what stands between the quotes.
static bool scan_string(scan *s, rag_slice *out) {
  size_t open = s->at++;
  for (;;) {
    int c = peek(s);
    if (c < 0) return fail_at(s, open, "a string that starts here has no end");
    if (c == '"') break;
    if (c < 0x20) return fail_at(s, s->at, "a control character in a string: write it as an escape such as \\n");
    s->at++;
    if (c != '\\') continue;
    c = peek(s);
    if (c == 'u') {
      if (!scan_unicode_escape(s)) return false;
    } else if (c > 0 && strchr("\"\\/bfnrt", c)) {
      s->at++;
    } else {
      return fail_at(s, s->at - 1, "no such escape: a backslash is written \\\\");
    }
  }
  if (out) *out = rag_slice_of(s->text + open + 1, s->at - open - 1);
  s->at++;
  return true;
}

static bool integer_fits(const char *text, size_t size) {
  bool negative = size && text[0] == '-';
  uint64_t v = 0;
  for (size_t i = negative; i < size; i++)
    if (__builtin_mul_overflow(v, (uint64_t)10, &v) || __builtin_add_overflow(v, (uint64_t)(text[i] - '0'), &v))
      return false;
  return !negative || v <= (uint64_t)INT64_MAX + 1;
}

// True where a number that does not fit a double is too large, not too small: the decimal exponent of its first digit
// that is not zero says which.
static bool is_huge(const char *text, size_t size) {
  int64_t magnitude = 0, exponent = 0;
  bool seen = false, point = false, negative = false;
  size_t i = 0;
  for (; i < size && text[i] != 'e' && text[i] != 'E'; i++) {
    if (text[i] == '.') point = true;
    if (!is_digit(text[i])) continue;
    seen |= text[i] != '0';
    if (seen && !point) magnitude++;
    if (!seen && point) magnitude--;
  }
  for (i++; i < size; i++) {
    if (text[i] == '-') negative = true;
    if (is_digit(text[i])) exponent = RAG_MIN(exponent * 10 + (text[i] - '0'), INT64_C(1) << 50);
  }
  return seen && magnitude + (negative ? -exponent : exponent) > 0;
}

static bool scan_number(scan *s) {
  size_t start = s->at;
  bool whole = true;
  if (peek(s) == '-') s->at++;
  if (!is_digit(peek(s))) return fail_at(s, start, "a minus sign wants a digit after it; NaN and Infinity are no JSON");
  if (peek(s) == '0') {
    s->at++;
    if (is_digit(peek(s))) return fail_at(s, start, "a number does not start with 0");
  }
  while (is_digit(peek(s))) s->at++;
  if (peek(s) == '.') {
    whole = false;
    s->at++;
    if (!is_digit(peek(s))) return fail_at(s, start, "a number wants a digit after its point");
    while (is_digit(peek(s))) s->at++;
  }
  if (peek(s) == 'e' || peek(s) == 'E') {
    whole = false;
    s->at++;
    if (peek(s) == '+' || peek(s) == '-') s->at++;
    if (!is_digit(peek(s))) return fail_at(s, start, "a number wants a digit in its exponent");
    while (is_digit(peek(s))) s->at++;
  }
  const char *text = s->text + start;
  size_t size = s->at - start;
  if (whole && !integer_fits(text, size))
    return fail_at(s, start,
                   "an integer outside 64 bits; send it as a string, or with a fraction if it may be rounded");
  if (!whole && rag_base_double_out_of_range(text, size) && is_huge(text, size))
    return fail_at(s, start, "a number too large for a double (over 1.8e308)");
  return true;
}

static bool scan_value(scan *s);

static bool scan_container(scan *s) {
  bool object = s->text[s->at] == '{';
  if (s->depth == RAG_JSON_DEPTH_MAX) return fail_at(s, s->at, "nested deeper than 64 levels");
  _Static_assert(RAG_JSON_DEPTH_MAX == 64, "the message above says 64");
  size_t open = s->at++;
  step *here = &s->steps[s->depth++];
  *here = (step){.in_object = object, .index = SIZE_MAX}; // before the first element
  int close = object ? '}' : ']';
  skip_space(s);
  if (peek(s) == close) goto done;
  for (;;) {
    skip_space(s);
    if (object) {
      if (peek(s) == '}') return fail_at(s, s->at, "a comma before }");
      if (peek(s) >= 0 && peek(s) != '"') return fail_at(s, s->at, "expected a member name in double quotes");
      if (peek(s) < 0) return fail_at(s, open, "an object that starts here has no end");
      rag_slice name;
      if (!scan_string(s, &name)) return false;
      here->name = name;
      skip_space(s);
      if (peek(s) != ':') return fail_at(s, s->at, "expected : after a member name");
      s->at++;
    } else if (peek(s) == ']') {
      return fail_at(s, s->at, "a comma before ]");
    }
    here->index++;
    if (!scan_value(s)) return false;
    skip_space(s);
    if (peek(s) == close) break;
    if (peek(s) < 0)
      return fail_at(s, open,
                     object ? "an object that starts here has no end" : "an array that starts here has no end");
    if (peek(s) != ',') return fail_at(s, s->at, object ? "expected , or }" : "expected , or ]");
    s->at++;
  }
done:
  s->at++;
  s->depth--;
  return true;
}

static bool scan_value(scan *s) {
  skip_space(s);
  int c = peek(s);
  if (c < 0) return fail_at(s, s->at, "the text ends where a value should be");
  if (c == '{' || c == '[') return scan_container(s);
  if (c == '"') return scan_string(s, NULL);
  if (c == '-' || is_digit(c)) return scan_number(s);
  return scan_word(s, c == 't' ? "true" : c == 'f' ? "false" : "null");
}

static bool scan_text(scan *s) {
  size_t bad = rag_utf8_bad_offset(s->text, s->size);
  if (bad < s->size) return fail_at(s, bad, "not valid UTF-8");
  if (s->size >= 3 && memcmp(s->text, "\xEF\xBB\xBF", 3) == 0)
    return fail_at(s, 0, "a byte order mark; send plain UTF-8 without one");
  skip_space(s);
  if (s->at == s->size) return fail_at(s, s->at, "the text is empty");
  if (!scan_value(s)) return false;
  skip_space(s);
  if (s->at < s->size) return fail_at(s, s->at, "text after the end of the value");
  return true;
}

rag_status rag_base__json_diagnose(rag_slice text, rag_error *err) {
  scan s = {.text = text.data ? text.data : "", .size = text.size};
  if (scan_text(&s)) return RAG_OK;
  rag_base__json_path path = {{0}};
  for (unsigned i = 0; i < s.depth; i++) {
    if (s.steps[i].in_object && s.steps[i].name.data) rag_base__json_path_name(&path, s.steps[i].name);
    if (!s.steps[i].in_object && s.steps[i].index != SIZE_MAX) rag_base__json_path_index(&path, s.steps[i].index);
  }
  return rag_fail_field(err, RAG_INVALID_ARGUMENT, path.text, "bad JSON at byte %zu%s%s%s: %s", s.at,
                        path.text[0] ? " (in " : "", path.text, path.text[0] ? ")" : "", s.reason);
}
