// Private to kb/: the sealed segments of a kb's index.
#ifndef RAGD_KB_SEGMENTS_INTERNAL_H
#define RAGD_KB_SEGMENTS_INTERNAL_H

#include "kb/kb_internal.h"

// ---------------------------------------------------------------------------------------------- making (segments.c)

// Lets the job look for work where the tail has become long; look: in any case (rows were removed). After a commit, not
// within one.
void rag_kb__segments_wake(rag_kb *kb, bool look);
// Purge: no file has anything of these chunks at return, which the index has forgotten already.
RAG_NODISCARD rag_status rag_kb__segments_erase(rag_kb *kb, const rag_bitmap *chunks, rag_error *err);
rag_status rag_kb__segments_run(void *ctx, rag_job *job, rag_error *err);

// ---------------------------------------------------------------------------------------------- files (segments_files.c)

// Takes in the segments that the kb's rows name; exist: every chunk that has a row. Those that cannot be read are dropped,
// and their vectors are the loader's. Caller holds kb->load_lock.
RAG_NODISCARD rag_status rag_kb__segments_load(rag_kb *kb, const rag_bitmap *exist, rag_error *err);
// Where the files are; owned. The folder may be missing.
RAG_NODISCARD rag_status rag_kb__segments_dir(const rag_kb *kb, char **out, rag_error *err);
// Files of a kb that is deleted; a missing folder is fine.
RAG_NODISCARD rag_status rag_kb__segments_delete(rag_store *store, uint32_t kb, rag_error *err);
void rag_kbs__segments_sweep(rag_kbs *kbs); // at open: files of kbs that are not there
// The rows of META: these go, those come, in one commit.
RAG_NODISCARD rag_status rag_kb__segments_exchange(rag_kb *kb, const rag_segment_id *gone, uint32_t gone_count,
                                                   const rag_index_segment_info *come, uint32_t come_count,
                                                   rag_error *err);
// Files whose rows are gone. One that cannot be removed is told to the log, and removed by a later sweep.
void rag_kb__segments_remove(const char *dir, const rag_segment_id *list, uint32_t count);
// Removes the files that no row names; at return that is durable.
RAG_NODISCARD rag_status rag_kb__segments_sweep(rag_kb *kb, const char *dir, rag_error *err);

#endif
