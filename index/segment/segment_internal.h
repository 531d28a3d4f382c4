// Private to index/: files of sealed segments. A segment is a set of rows that does not change any more, with what an
// engine derived from them; its file can always be made again from the stored vectors, and is never trusted unread.
#ifndef RAGD_INDEX_SEGMENT_INTERNAL_H
#define RAGD_INDEX_SEGMENT_INTERNAL_H

#include "base/base.h"

// ---------------------------------------------------------------------------------------------- a file of sections (file.c)

#define SEGMENT_SECTIONS_MAX 32u
#define SEGMENT_META_BYTES_MAX 2048u
#define SEGMENT_ALIGN 4096u // of every section, so that it can be mapped and read past the page cache

typedef struct segment_writer segment_writer;
// Makes PATH anew beside what is there; nothing is at PATH before segment_writer_finish. One thread.
RAG_NODISCARD rag_status rag_segment__writer_create(const char *path, segment_writer **out, rag_error *err);
// Starts a section, which ends where the next one starts. kind: the caller's, each once, not 0.
RAG_NODISCARD rag_status rag_segment__writer_section(segment_writer *writer, uint32_t kind, rag_error *err);
RAG_NODISCARD rag_status rag_segment__writer_append(segment_writer *writer, const void *data, size_t size,
                                                    rag_error *err);
// The file is complete, synced, and at its name, durably; or not there at all. meta: what the caller says of the whole.
// Ends the writer in any case.
RAG_NODISCARD rag_status rag_segment__writer_finish(segment_writer *writer, const void *meta, size_t meta_size,
                                                    rag_error *err);
void rag_segment__writer_abandon(segment_writer *writer); // NULL is fine; leaves no file

typedef struct segment_file segment_file;
// Opens and maps a file, whose header and length are checked here, and its contents by rag_segment__file_verify.
// RAG_NOT_FOUND: there is none. RAG_DATA_LOSS: it is not what was written; the text says what is wrong.
RAG_NODISCARD rag_status rag_segment__file_open(const char *path, segment_file **out, rag_error *err);
void rag_segment__file_close(segment_file *file); // NULL is fine; what was borrowed goes with it
// Reads blocks [first, first + count) of segment_file_blocks and compares them with their checksums; any thread. Reads
// by system calls, so that a disk that cannot read is an error and no signal.
RAG_NODISCARD rag_status rag_segment__file_verify(const segment_file *file, uint64_t first, uint64_t count,
                                                  rag_error *err);
uint64_t rag_segment__file_blocks(const segment_file *file);
uint64_t rag_segment__file_bytes(const segment_file *file);
rag_slice rag_segment__file_meta(const segment_file *file);
// A section's bytes, mapped, at an address that SEGMENT_ALIGN divides; {NULL, 0} where there is no such section.
rag_slice rag_segment__file_section(const segment_file *file, uint32_t kind);
// As above, without the right to fail: NULL unless the section has exactly `size` bytes.
const void *rag_segment__file_exactly(const segment_file *file, uint32_t kind, uint64_t size);
// Removes files that an interrupted writer left in a folder. A missing folder is fine.
RAG_NODISCARD rag_status rag_segment__sweep(const char *dir, rag_error *err);

#endif
