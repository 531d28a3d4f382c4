// The structure method, first half: reads a text line by line and tells the packer (chunk_pack.c) where it may be cut
// and how good each place is. Markdown as CommonMark has it, as far as it says where things begin and end; text without
// any Markdown is paragraphs, lines and sentences.
//
// What is seen
//  - a heading: `#` to `######`, or one line underlined with === or ---; not in a quote, a list item or a fence;
//  - a fence of ``` or ~~~, also in quotes and list items, closed by its like or by the end of the quote or the text;
//  one
//    unit, unless it is longer than max_tokens (with the heading right above it): then lines are;
//  - front matter: --- or +++ on the first line down to its like; HTML comments; both cut by lines only;
//  - list items, nested ones; tables with a delimiter row; quotes, where `> #` is no section; thematic breaks;
//  - a line that is one opening tag stays with what follows, one that is a closing tag with what stands before;
//  - a block that ends with a colon is an introduction to the next.
// Line ends are LF, CR LF and CR. A byte order mark at the start is white space.
//
// Not seen, on purpose: underlined headings of several lines (mostly a paragraph above a rule that lacks its blank
// line); indented code (its lines are a paragraph's: nothing in it can be taken for a heading); what HTML elements
// contain; reference definitions.
//
// Invariants: boundaries ascend and lie between two tokens; each byte is looked at a bounded number of times (searches
// ahead for line ends, for `-->` and for the end of front matter keep what they found).
//
// Threads: one at a time; no globals.
#include "kb/chunk_internal.h"

#define TAB_COLUMNS 4u
#define CODE_COLUMNS 4u // a line indented so far is no heading, fence or quote
#define LIST_COLUMNS 2u // a line indented so far goes on with a list item
#define FENCE_MIN 3u

typedef struct line {
  size_t start;
  size_t first;  // the first byte after quote marks and white space; == end where blank
  size_t end;    // without the line's end
  size_t next;   // the start of the next line
  size_t indent; // columns of white space before `first`, after the last quote mark
  size_t depth;  // of quote marks
} line;

typedef enum block { BLOCK_NONE, BLOCK_TEXT, BLOCK_TABLE } block;

typedef struct scanner {
  rag_slice text;
  rag_chunk__packer *packer;
  size_t next_lf, next_cr;   // the first at or after the last line's start; text.size: none
  size_t next_comment_close; // likewise for "-->"
  block open;                // what the last line belongs to; NONE after a blank line
  size_t depth;              // of the quote that the last block stands in
  bool in_list;
  bool colon;           // the last block ends with a colon, or is an opening tag
  bool quote_heading;   // the last line is a heading in a quote
  rag_chunk__stop stop; // how the last line of the open text ends
} scanner;

// -------------------------------------------------------------------------------------------------------------- lines

static size_t find_byte(const scanner *s, size_t known, size_t at, char c) {
  if (known >= at) return known;
  const char *found = memchr(s->text.data + at, c, s->text.size - at);
  return found ? (size_t)(found - s->text.data) : s->text.size;
}

// Splits off the line at `at` (ascending over calls), stripping at most `depth_max` quote marks.
static line read_line(scanner *s, size_t at, size_t depth_max) {
  const char *data = s->text.data;
  s->next_lf = find_byte(s, s->next_lf, at, '\n');
  s->next_cr = find_byte(s, s->next_cr, at, '\r');
  line l = {.start = at, .end = RAG_MIN(s->next_lf, s->next_cr)};
  l.next = l.end;
  if (l.end < s->text.size) l.next++;
  if (l.next < s->text.size && l.next == s->next_lf && data[l.end] == '\r') l.next++; // CR LF
  for (size_t p = at;;) {
    size_t columns = 0;
    while (p < l.end && (data[p] == ' ' || data[p] == '\t' || data[p] == '\f' || data[p] == '\v')) {
      columns += data[p] == '\t' ? TAB_COLUMNS : 1;
      p++;
    }
    l.first = p;
    l.indent = columns;
    if (p == l.end || data[p] != '>' || columns >= CODE_COLUMNS || l.depth >= depth_max) break;
    l.depth++;
    p++;
    if (p < l.end && data[p] == ' ') p++;
  }
  return l;
}

// The line after l, not consumed. Only the two line-end caches move on, and they serve the later call as well.
static line peek_line(const scanner *s, const line *l) {
  scanner ahead = *s;
  return read_line(&ahead, l->next, SIZE_MAX);
}

static size_t run_of(const scanner *s, size_t at, size_t end, char c) {
  size_t p = at;
  while (p < end && s->text.data[p] == c) p++;
  return p - at;
}

static bool is_blank_from(const scanner *s, size_t at, size_t end) {
  while (at < end && (s->text.data[at] == ' ' || s->text.data[at] == '\t')) at++;
  return at == end;
}

static char last_visible(const scanner *s, const line *l) {
  size_t p = l->end;
  while (p > l->first && (s->text.data[p - 1] == ' ' || s->text.data[p - 1] == '\t')) p--;
  return p > l->first ? s->text.data[p - 1] : '\0';
}

// ------------------------------------------------------------------------------------------------- what a line may be

// 1 to 6 for `# text`, 0 for none.
static uint8_t heading_level(const scanner *s, const line *l) {
  if (l->indent >= CODE_COLUMNS || l->first == l->end || s->text.data[l->first] != '#') return 0;
  size_t hashes = run_of(s, l->first, l->end, '#');
  if (hashes > 6) return 0;
  size_t after = l->first + hashes;
  return after == l->end || s->text.data[after] == ' ' || s->text.data[after] == '\t' ? (uint8_t)hashes : 0;
}

// 1 for ===, 2 for ---, 0 for none.
static uint8_t underline_level(const scanner *s, const line *l) {
  if (l->depth > 0 || l->indent >= CODE_COLUMNS || l->first == l->end) return 0;
  char c = s->text.data[l->first];
  if (c != '=' && c != '-') return 0;
  size_t run = run_of(s, l->first, l->end, c);
  return is_blank_from(s, l->first + run, l->end) ? (c == '=' ? 1 : 2) : 0;
}

// The length of the fence that the line opens, 0 for none.
static size_t fence_size(const scanner *s, const line *l) {
  if (l->first == l->end || (l->indent >= CODE_COLUMNS && !s->in_list)) return 0;
  char c = s->text.data[l->first];
  if (c != '`' && c != '~') return 0;
  size_t run = run_of(s, l->first, l->end, c);
  if (run < FENCE_MIN) return 0;
  // ``` with another ` on the line is code inside a sentence.
  if (c == '`' && memchr(s->text.data + l->first + run, '`', l->end - l->first - run)) return 0;
  return run;
}

static bool is_thematic_break(const scanner *s, const line *l) {
  if (l->first == l->end || l->indent >= CODE_COLUMNS) return false;
  char c = s->text.data[l->first];
  if (c != '-' && c != '*' && c != '_') return false;
  size_t marks = 0;
  for (size_t p = l->first; p < l->end; p++) {
    if (s->text.data[p] == c) marks++;
    else if (s->text.data[p] != ' ' && s->text.data[p] != '\t') return false;
  }
  return marks >= 3;
}

// The bytes of the list marker, 0 for none.
static size_t list_marker(const scanner *s, const line *l) {
  if (l->first == l->end || (l->indent >= CODE_COLUMNS && !s->in_list)) return 0;
  const char *data = s->text.data;
  size_t p = l->first;
  if (data[p] == '-' || data[p] == '*' || data[p] == '+') {
    p++;
  } else {
    while (p < l->end && data[p] >= '0' && data[p] <= '9' && p - l->first < 9) p++;
    if (p == l->first || p == l->end || (data[p] != '.' && data[p] != ')')) return 0;
    p++;
  }
  return p == l->end || data[p] == ' ' || data[p] == '\t' ? p - l->first : 0;
}

// | --- | :-: |: at least one bar, one dash, and nothing else.
static bool is_table_delimiter(const scanner *s, const line *l) {
  bool bar = false, dash = false;
  for (size_t p = l->first; p < l->end; p++) {
    char c = s->text.data[p];
    if (c == '|') bar = true;
    else if (c == '-') dash = true;
    else if (c != ':' && c != ' ' && c != '\t') return false;
  }
  return bar && dash;
}

typedef enum tag { TAG_NONE, TAG_OPENING, TAG_CLOSING } tag;

// A line that is one tag and nothing else.
static tag lone_tag(const scanner *s, const line *l) {
  const char *data = s->text.data;
  if (l->end - l->first < 3 || data[l->first] != '<' || last_visible(s, l) != '>') return TAG_NONE;
  size_t size = l->end - l->first - 1;
  if (memchr(data + l->first + 1, '<', size)) return TAG_NONE;
  char c = data[l->first + 1];
  if (c == '/') return TAG_CLOSING;
  if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))) return TAG_NONE;
  // An autolink or an empty element introduces nothing.
  if (memchr(data + l->first, ':', size) && !memchr(data + l->first, ' ', size)) return TAG_NONE;
  size_t close = l->end;
  while (data[close - 1] != '>') close--;
  return data[close - 2] == '/' ? TAG_NONE : TAG_OPENING;
}

// ------------------------------------------------------------------------------------------------------------- blocks

// How good a cut is before a block that starts on this line.
static rag_chunk__strength block_strength(const scanner *s, const line *l, rag_chunk__strength wanted) {
  if (wanted == RAG_CHUNK__GLUE) return wanted;
  if (s->quote_heading) return RAG_CHUNK__GLUE;
  if (s->colon) return RAG_CHUNK__INTRO;
  if (l->depth > 0 && l->depth == s->depth) return RAG_MIN(wanted, RAG_CHUNK__ITEM);
  return wanted;
}

// Starts a block at the line (quote marks and indent included).
static rag_status start_block(scanner *s, const line *l, rag_chunk__strength wanted) {
  rag_chunk__strength strength = block_strength(s, l, wanted);
  s->depth = l->depth;
  s->colon = false;
  s->quote_heading = false;
  s->stop = RAG_CHUNK__STOP_NONE;
  return rag_chunk__boundary(s->packer, l->start, strength);
}

// Sentences of one line of running text; the boundary at its start is made.
static rag_status scan_sentences(scanner *s, const line *l, size_t from) {
  size_t at = from;
  while ((at = rag_chunk__sentence_next(s->text, from, at, l->end, &s->stop)) < l->end)
    RAG_TRY(rag_chunk__boundary(s->packer, at, RAG_CHUNK__SENTENCE));
  s->colon = last_visible(s, l) == ':';
  return RAG_OK;
}

static rag_status scan_text(scanner *s, const line *l, rag_chunk__strength wanted, size_t marker) {
  RAG_TRY(start_block(s, l, wanted));
  s->open = BLOCK_TEXT;
  RAG_TRY(scan_sentences(s, l, l->first + marker));
  return RAG_OK;
}

// One more line of the open text.
static rag_status scan_more_text(scanner *s, const line *l) {
  bool over = rag_chunk__sentence_over(s->text, s->stop, l->first, l->end);
  RAG_TRY(rag_chunk__boundary(s->packer, l->start, over ? RAG_CHUNK__SENTENCE : RAG_CHUNK__LINE));
  return scan_sentences(s, l, l->first);
}

// Lines [from, to) as units: for blocks without sentences. The first and the last line stay with their neighbours.
static rag_status scan_lines(scanner *s, size_t from, size_t to, size_t depth) {
  bool after_blank = false;
  size_t number = 0;
  for (size_t at = from; at < to; number++) {
    line l = read_line(s, at, depth);
    bool closes = l.next >= to;
    if (number > 0 && l.first < l.end) {
      rag_chunk__strength strength = number == 1 || closes ? RAG_CHUNK__GLUE
                                     : after_blank         ? RAG_CHUNK__SENTENCE
                                                           : RAG_CHUNK__LINE;
      RAG_TRY(rag_chunk__boundary(s->packer, l.start, strength));
    }
    after_blank = l.first == l.end;
    at = l.next;
  }
  return RAG_OK;
}

// A block [l->start, end) that stays whole where it fits. The scanner's line ends are as before the block.
static rag_status scan_whole(scanner *s, const line *l, size_t end, rag_chunk__strength wanted) {
  RAG_TRY(start_block(s, l, wanted));
  s->open = BLOCK_NONE;
  if (rag_chunk__measure(s->text, l->start, end, NULL, NULL) > rag_chunk__unit_limit(s->packer))
    RAG_TRY(scan_lines(s, l->start, end, l->depth));
  return RAG_OK;
}

static rag_status scan_fence(scanner *s, const line *l, size_t size, size_t *out_next) {
  char c = s->text.data[l->first];
  scanner ahead = *s;
  size_t at = l->next;
  while (at < s->text.size) {
    line inner = read_line(&ahead, at, l->depth);
    if (inner.depth < l->depth) break; // the quote is over, and the fence with it
    at = inner.next;
    size_t run = run_of(s, inner.first, inner.end, c);
    if (run >= size && inner.indent <= l->indent + 3 && is_blank_from(s, inner.first + run, inner.end)) break;
  }
  *out_next = at;
  rag_chunk__strength wanted = s->in_list && l->indent >= LIST_COLUMNS ? RAG_CHUNK__ROW : RAG_CHUNK__BLOCK;
  return scan_whole(s, l, at, wanted);
}

// <!-- to -->, where it does not end on its own line. *out_next untouched where it is no such comment.
static rag_status scan_comment(scanner *s, const line *l, size_t *out_next) {
  if (l->end - l->first < 4 || memcmp(s->text.data + l->first, "<!--", 4) != 0) return RAG_OK;
  size_t from = l->first + 4;
  if (s->next_comment_close < from) {
    const char *found = memmem(s->text.data + from, s->text.size - from, "-->", 3);
    s->next_comment_close = found ? (size_t)(found - s->text.data) : s->text.size;
  }
  if (s->next_comment_close < l->end || s->next_comment_close == s->text.size) return RAG_OK;
  scanner ahead = *s;
  line last = read_line(&ahead, s->next_comment_close, 0);
  *out_next = last.next;
  return scan_whole(s, l, last.next, RAG_CHUNK__BLOCK);
}

static rag_status scan_heading(scanner *s, const line *l, size_t end, uint8_t level) {
  RAG_TRY(rag_chunk__heading(s->packer, l->start, level));
  RAG_TRY(rag_chunk__boundary(s->packer, end, RAG_CHUNK__GLUE));
  s->open = BLOCK_NONE;
  s->depth = 0;
  s->in_list = s->colon = s->quote_heading = false;
  return RAG_OK;
}

static rag_status scan_item(scanner *s, const line *l, size_t marker) {
  bool nested = s->in_list && l->indent >= LIST_COLUMNS;
  rag_chunk__strength wanted = nested ? RAG_CHUNK__ROW : s->in_list ? RAG_CHUNK__ITEM : RAG_CHUNK__BLOCK;
  s->in_list = true;
  return scan_text(s, l, wanted, marker);
}

static rag_status scan_table(scanner *s, const line *header, size_t *out_next) {
  RAG_TRY(start_block(s, header, RAG_CHUNK__BLOCK));
  line delimiter = read_line(s, header->next, SIZE_MAX);
  RAG_TRY(rag_chunk__boundary(s->packer, delimiter.start, RAG_CHUNK__GLUE));
  RAG_TRY(rag_chunk__boundary(s->packer, delimiter.next, RAG_CHUNK__GLUE));
  s->open = BLOCK_TABLE;
  *out_next = delimiter.next;
  return RAG_OK;
}

static rag_status scan_tag(scanner *s, const line *l, tag kind) {
  RAG_TRY(start_block(s, l, kind == TAG_CLOSING ? RAG_CHUNK__GLUE : RAG_CHUNK__BLOCK));
  s->open = BLOCK_NONE;
  s->colon = kind == TAG_OPENING;
  return RAG_OK;
}

// A line that starts or goes on with a block. *out_next: the line after all that was read.
static rag_status scan_line(scanner *s, const line *l, size_t *out_next) {
  *out_next = l->next;
  bool lazy = s->open == BLOCK_TEXT && l->depth < s->depth; // a quote's paragraph that forgets its mark
  if (l->depth != s->depth && !lazy) s->open = BLOCK_NONE;

  size_t fence = fence_size(s, l);
  if (fence > 0) return scan_fence(s, l, fence, out_next);

  bool in_item = s->in_list && l->indent >= LIST_COLUMNS;
  uint8_t level = in_item ? 0 : heading_level(s, l);
  if (level > 0 && l->depth == 0) return scan_heading(s, l, l->end, level);
  if (level > 0) {
    RAG_TRY(start_block(s, l, RAG_CHUNK__BLOCK));
    s->open = BLOCK_NONE;
    s->quote_heading = true;
    return RAG_OK;
  }
  if (is_thematic_break(s, l)) {
    RAG_TRY(rag_chunk__boundary(s->packer, l->start, RAG_CHUNK__GLUE));
    s->open = BLOCK_NONE;
    s->depth = l->depth;
    s->in_list = s->colon = s->quote_heading = false;
    return RAG_OK;
  }
  size_t marker = list_marker(s, l);
  if (marker > 0) return scan_item(s, l, marker);
  if (l->depth == 0 && s->open == BLOCK_NONE) {
    size_t next = l->next;
    RAG_TRY(scan_comment(s, l, out_next));
    if (*out_next != next) return RAG_OK;
  }
  if (s->open == BLOCK_TABLE) return rag_chunk__boundary(s->packer, l->start, RAG_CHUNK__ROW);
  if (s->open == BLOCK_NONE || l->depth == s->depth) {
    tag kind = lone_tag(s, l);
    if (kind != TAG_NONE) return scan_tag(s, l, kind);
  }
  if (s->open == BLOCK_TEXT) return scan_more_text(s, l);

  // A new paragraph, unless the next line makes it a heading or a table.
  if (s->in_list && l->indent < LIST_COLUMNS) s->in_list = false;
  line below = peek_line(s, l);
  uint8_t underlined = l->depth == 0 && l->indent < CODE_COLUMNS && !in_item ? underline_level(s, &below) : 0;
  if (underlined > 0) {
    *out_next = below.next;
    return scan_heading(s, l, below.end, underlined);
  }
  if (below.depth == l->depth && is_table_delimiter(s, &below) &&
      memchr(s->text.data + l->first, '|', l->end - l->first))
    return scan_table(s, l, out_next);
  return scan_text(s, l, in_item ? RAG_CHUNK__ROW : RAG_CHUNK__BLOCK, 0);
}

// --- or +++ on the first line down to its like: its end, or `at` where there is none.
static size_t front_matter_end(const scanner *s, size_t at) {
  scanner ahead = *s;
  line first = read_line(&ahead, at, 0);
  if (first.end - first.start < 3) return at;
  const char *data = s->text.data;
  bool dashes = memcmp(data + first.start, "---", 3) == 0;
  if (!dashes && memcmp(data + first.start, "+++", 3) != 0) return at;
  if (!is_blank_from(s, first.start + 3, first.end)) return at;
  for (size_t p = first.next, number = 0; p < s->text.size; number++) {
    line l = read_line(&ahead, p, 0);
    if (number == 0 && l.first == l.end) return at; // a rule above a blank line
    if (l.end - l.start >= 3 && memcmp(data + l.start, data + first.start, 3) == 0 &&
        is_blank_from(s, l.start + 3, l.end))
      return l.next;
    p = l.next;
  }
  return at;
}

static rag_status scan(scanner *s) {
  size_t at = 0;
  if (s->text.size >= 3 && memcmp(s->text.data, "\xEF\xBB\xBF", 3) == 0) at = 3;
  size_t body = front_matter_end(s, at);
  if (body > at) {
    line first = read_line(s, at, 0);
    RAG_TRY(scan_whole(s, &first, body, RAG_CHUNK__BLOCK));
    RAG_TRY(rag_chunk__boundary(s->packer, body, RAG_CHUNK__BLOCK));
    at = body;
  }
  while (at < s->text.size) {
    line l = read_line(s, at, SIZE_MAX);
    at = l.next;
    if (l.first < l.end) {
      RAG_TRY(scan_line(s, &l, &at));
    } else {
      s->open = BLOCK_NONE;
      s->depth = RAG_MIN(s->depth, l.depth);
    }
  }
  return rag_chunk__packer_finish(s->packer, s->text.size);
}

rag_status rag_chunk__structure(const rag_chunking *chunking, rag_slice text, rag_chunk__spans *out, rag_error *err) {
  rag_chunk__packer packer;
  RAG_TRY(rag_chunk__packer_open(&packer, chunking, text, out, err));
  scanner s = {.text = text, .packer = &packer};
  if (text.size > 0) { // before the first look: "known" offsets that are behind any line but the first
    const char *lf = memchr(text.data, '\n', text.size), *cr = memchr(text.data, '\r', text.size);
    s.next_lf = lf ? (size_t)(lf - text.data) : text.size;
    s.next_cr = cr ? (size_t)(cr - text.data) : text.size;
  }
  rag_status status = scan(&s);
  rag_chunk__packer_close(&packer);
  return status;
}
