// Private to the chunker: the token rules (tokens.c), sentence ends (chunk_sentence.c), the packer of units into chunks
// (chunk_pack.c), the three methods, and the list of spans that they fill.
//
// Everything here is a pure function of its arguments: no globals, no locks, no locale.
#ifndef RAGD_KB_CHUNK_INTERNAL_H
#define RAGD_KB_CHUNK_INTERNAL_H

#include "kb/kb.h"

// ---------------------------------------------------------------------------------------------- tokens (tokens.c)

// The first token at or after `at`: *out_start and *out_end are its bytes; false when only white space is left.
// Stateless: what it gives depends on the bytes from *out_start on alone, so a text cut between two tokens has the
// same tokens in its halves.
bool rag_chunk__token(rag_slice text, size_t at, size_t end, size_t *out_start, size_t *out_end);
// Tokens in [start, end); with tokens, *out_start and *out_end are the bytes from the first to the last one: the range
// without white space around it. Both may be NULL.
uint64_t rag_chunk__measure(rag_slice text, size_t start, size_t end, size_t *out_start, size_t *out_end);
bool rag_chunk__is_space(uint32_t code);
bool rag_chunk__is_mark(uint32_t code);

// ---------------------------------------------------------------------------------------------- spans (chunk.c)

// The spans made so far. Full is an answer, not an error of memory: `over` is set and the method stops.
typedef struct rag_chunk__spans {
  rag_span *items;
  uint32_t count;
  uint32_t capacity;
  bool over; // one more than RAG_DOCUMENT_CHUNKS_MAX was wanted
} rag_chunk__spans;
// RAG_OUT_OF_RANGE (and `over`) past the limit.
RAG_NODISCARD rag_status rag_chunk__spans_add(rag_chunk__spans *spans, uint32_t start, uint32_t end, rag_error *err);

RAG_NODISCARD rag_status rag_chunk__fixed(const rag_chunking *chunking, rag_slice text, rag_chunk__spans *out,
                                          rag_error *err);
RAG_NODISCARD rag_status rag_chunk__structure(const rag_chunking *chunking, rag_slice text, rag_chunk__spans *out,
                                              rag_error *err);

// ---------------------------------------------------------------------------------------------- the packer
// (chunk_pack.c)

// How good a place to cut a boundary is; higher is better.
typedef enum rag_chunk__strength {
  RAG_CHUNK__GLUE = 0,     // after a heading, between a table's header and its first row
  RAG_CHUNK__WORD = 1,     // inside a sentence or a line that is too long by itself
  RAG_CHUNK__LINE = 2,     // a line's end inside a sentence, code or a log
  RAG_CHUNK__INTRO = 3,    // after a block that ends with a colon, after an opening tag
  RAG_CHUNK__SENTENCE = 4, // also: after a blank line in code
  RAG_CHUNK__ROW = 5,      // table rows, nested list items, paragraphs of a list item
  RAG_CHUNK__ITEM = 6,     // list items, blocks inside a quote
  RAG_CHUNK__BLOCK = 7,    // paragraphs, lists, tables, fences, quotes
} rag_chunk__strength;

// A run of text that is not cut any further; never blank, at most max_tokens tokens.
typedef struct rag_chunk__unit {
  uint32_t start;
  uint32_t end;
  uint32_t tokens;
  uint8_t strength; // of the boundary before it
  bool heading;
} rag_chunk__unit;

// A chunk before small sections are packed together.
typedef struct rag_chunk__piece {
  uint32_t start;
  uint32_t end;
  uint32_t tokens;
  uint8_t level;     // of the heading that it stands under (the last of several), 0: before any heading
  uint8_t opened_by; // level of the heading that it starts with, 0: goes on with a section
  bool heading_only;
} rag_chunk__piece;

typedef struct rag_chunk__packer {
  rag_slice text;
  uint32_t max_tokens;
  uint32_t min_tokens;
  uint32_t overlap_tokens;
  rag_chunk__spans *out;
  rag_error *err;

  // The unit being collected: [unit_start, next boundary).
  size_t unit_start;
  uint8_t unit_strength;
  bool unit_heading;
  uint32_t glue; // tokens of the units that the next one, glued, must share a chunk with

  // units[first..count) will be a chunk, of `tokens` tokens; units[first..fresh) are its overlap. While `held`,
  // units[0..fresh) are the chunk before, of the same section, whose own overlap is units[0..held_fresh): kept back
  // until it is known that what follows is not too small a rest.
  rag_chunk__unit *units;
  uint32_t count;
  uint32_t first;
  uint32_t fresh;
  uint32_t tokens;
  bool held;
  uint32_t held_fresh;

  uint8_t level;
  uint8_t opened_by;
  bool has_text; // the section has more than headings

  rag_chunk__piece *pieces;
  uint32_t piece_count;
  uint32_t piece_capacity;
} rag_chunk__packer;

RAG_NODISCARD rag_status rag_chunk__packer_open(rag_chunk__packer *packer, const rag_chunking *chunking, rag_slice text,
                                                rag_chunk__spans *out, rag_error *err);
// Ends the unit at `offset` and says how good a cut is there.
RAG_NODISCARD rag_status rag_chunk__boundary(rag_chunk__packer *packer, size_t offset, rag_chunk__strength strength);
// Ends the section at `offset`, where a heading of `level` (1 to 6) begins.
RAG_NODISCARD rag_status rag_chunk__heading(rag_chunk__packer *packer, size_t offset, uint8_t level);
// The most tokens that the unit begun last may have without being cut.
uint32_t rag_chunk__unit_limit(const rag_chunk__packer *packer);
RAG_NODISCARD rag_status rag_chunk__packer_finish(rag_chunk__packer *packer, size_t end);
void rag_chunk__packer_close(rag_chunk__packer *packer);

// ---------------------------------------------------------------------------------------------- sentences
// (chunk_sentence.c)

typedef enum rag_chunk__stop {
  RAG_CHUNK__STOP_NONE = 0,
  RAG_CHUNK__STOP_IF_NO_LOWER = 1, // a sentence ends unless a lower-case letter follows
  RAG_CHUNK__STOP_IF_NO_DIGIT = 2, // unless a lower-case letter or a digit follows ("No. 5")
  RAG_CHUNK__STOP_ALWAYS = 3,      // CJK full stops and their like
} rag_chunk__stop;

// Walks one line [at, end): the offset where the next sentence begins inside it, or `end`. *stop_at_end: how the line's
// last words end, for the line that may go on with the paragraph.
size_t rag_chunk__sentence_next(rag_slice text, size_t start, size_t at, size_t end, rag_chunk__stop *stop_at_end);
// Whether a sentence that stopped so is over, given what follows at `at`.
bool rag_chunk__sentence_over(rag_slice text, rag_chunk__stop stop, size_t at, size_t end);

#endif
