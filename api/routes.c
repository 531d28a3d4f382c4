// THE table: every way into the service. REST, RPC, /openapi.json, the authorisation test matrix and ragctl follow it.
//
// Roles: read sees, write changes what can be had back (documents, branches, settings), admin does what cannot be
// undone or concerns everybody (deleting a kb, purge, gc, keys, jobs that run). Health and the API's description are
// open.
//
// Lanes: inline is for what is answered from memory or a few point reads. What syncs to disk, waits, or may answer with
// megabytes goes to a worker. Search is inline and asks for a worker by itself when it would take long
// (handlers_search.c).
#include "api/dispatch_internal.h"

#define RPC(service_, rpc_, handler_, method_, path_, request_, response_, role_, lane_, summary_)                     \
  {                                                                                                                    \
    .name = #service_ "/" #rpc_, .service = #service_, .rpc = #rpc_, .method = method_, .path = path_,                 \
    .request = &ragd__v1__##request_##__descriptor, .response = &ragd__v1__##response_##__descriptor,                  \
    .handler = rag_api__##handler_, .role = RAG_ROLE_##role_, .lane = RAG_LANE_##lane_, .summary = summary_            \
  }
#define PLAIN(name_, method_, path_, plain_, role_, lane_, summary_)                                                   \
  {                                                                                                                    \
    .name = name_, .service = "", .rpc = "", .method = method_, .path = path_, .plain = rag_api__##plain_,             \
    .role = RAG_ROLE_##role_, .lane = RAG_LANE_##lane_, .summary = summary_                                            \
  }
#define STREAM(name_, method_, path_, stream_, role_, summary_)                                                        \
  {                                                                                                                    \
    .name = name_, .service = "", .rpc = "", .method = method_, .path = path_, .stream = rag_api__stream_##stream_,    \
    .role = RAG_ROLE_##role_, .lane = RAG_LANE_STREAM, .summary = summary_                                             \
  }
#define KB "/v1/kbs/{kb}"

const rag_route rag_api__routes[] = {
    // The order within a service is that of the documentation; matching does not depend on it.
    RPC(KnowledgeBases, CreateKb, create_kb, "POST", "/v1/kbs", create_kb_request, kb, WRITE, POOL,
        "Create a knowledge base"),
    RPC(KnowledgeBases, ListKbs, list_kbs, "GET", "/v1/kbs", list_kbs_request, list_kbs_response, READ, POOL,
        "List knowledge bases by name"),
    RPC(KnowledgeBases, GetKb, get_kb, "GET", KB, get_kb_request, kb, READ, INLINE,
        "A knowledge base: its settings and sizes"),
    RPC(KnowledgeBases, UpdateKb, update_kb, "PATCH", KB, update_kb_request, kb, WRITE, POOL,
        "Change settings; chunking applies to texts put from now on"),
    RPC(KnowledgeBases, DeleteKb, delete_kb, "DELETE", KB, delete_kb_request, delete_kb_response, ADMIN, POOL,
        "Delete a knowledge base with its whole history"),
    RPC(KnowledgeBases, GetIndex, get_index, "GET", KB "/index", get_index_request, index, READ, POOL,
        "Where the vectors are: the tail and the sealed segments"),
    RPC(KnowledgeBases, CompactIndex, compact_index, "POST", KB "/index:compact", compact_index_request, job_started,
        ADMIN, POOL, "Make one segment of all vectors that a head has, and one of the others"),

    RPC(Documents, PutDocuments, put_documents, "POST", KB "/documents", put_documents_request, commit_result, WRITE,
        POOL, "Put and delete documents in one commit, all or nothing"),
    RPC(Documents, ListDocuments, list_documents, "GET", KB "/documents", list_documents_request,
        list_documents_response, READ, POOL, "Documents of a version"),
    RPC(Documents, GetDocument, get_document, "GET", KB "/documents/{id}", get_document_request, document, READ, INLINE,
        "A document as of a version"),
    RPC(Documents, PatchDocument, patch_document, "PATCH", KB "/documents/{id}", patch_document_request, commit_result,
        WRITE, POOL, "Merge-patch a document's metadata; embeds nothing again"),
    RPC(Documents, DeleteDocument, delete_document, "DELETE", KB "/documents/{id}", delete_document_request,
        commit_result, WRITE, POOL, "Delete a document from a branch; older versions keep it"),
    RPC(Documents, DeleteDocuments, delete_documents, "POST", KB "/documents:delete", delete_documents_request,
        commit_result, WRITE, POOL, "Delete the documents of a branch that pass a filter; older versions keep them"),
    STREAM("Documents/Import", "POST", KB "/documents:import", import, WRITE,
           "Import newline-delimited JSON documents of any number, in commits of `batch` documents"),

    RPC(Versions, ListCommits, list_commits, "GET", KB "/commits", list_commits_request, list_commits_response, READ,
        POOL, "The commits of a branch, newest first"),
    RPC(Versions, GetCommit, get_commit, "GET", KB "/commits/{ref}", get_commit_request, commit, READ, INLINE,
        "One commit, by any ref"),
    RPC(Versions, ListBranches, list_branches, "GET", KB "/branches", list_branches_request, list_branches_response,
        READ, INLINE, "Branches by name"),
    RPC(Versions, CreateBranch, create_branch, "POST", KB "/branches", create_branch_request, ref, WRITE, POOL,
        "Create a branch"),
    RPC(Versions, DeleteBranch, delete_branch, "DELETE", KB "/branches/{name}", delete_branch_request, empty, WRITE,
        POOL, "Delete a branch"),
    RPC(Versions, ListTags, list_tags, "GET", KB "/tags", list_tags_request, list_tags_response, READ, INLINE,
        "Tags by name"),
    RPC(Versions, CreateTag, create_tag, "POST", KB "/tags", create_tag_request, ref, WRITE, POOL, "Create a tag"),
    RPC(Versions, DeleteTag, delete_tag, "DELETE", KB "/tags/{name}", delete_tag_request, empty, WRITE, POOL,
        "Delete a tag"),
    RPC(Versions, Diff, diff, "GET", KB "/diff", diff_request, diff_response, READ, POOL,
        "What differs between two versions, document by document"),
    RPC(Versions, Merge, merge, "POST", KB "/merge", merge_request, commit_result, WRITE, POOL,
        "Merge a version into a branch, three ways"),
    RPC(Versions, Rollback, rollback, "POST", KB "/rollback", rollback_request, commit_result, WRITE, POOL,
        "A new commit with the content of an older version"),
    RPC(Versions, Gc, gc, "POST", KB "/gc", gc_request, job_started, ADMIN, POOL,
        "Drop versions that no retention rule, tag, head or merge base keeps"),
    RPC(Versions, Purge, purge, "POST", KB "/purge", purge_request, job_started, ADMIN, POOL,
        "Erase documents from every version, with a receipt"),
    STREAM("KnowledgeBases/Export", "GET", KB "/export", export, READ,
           "A knowledge base with its whole history as one stream"),
    STREAM("KnowledgeBases/Import", "POST", "/v1/kbs:import", kbs_import, ADMIN,
           "A new knowledge base from an exported stream"),

    RPC(Retrieval, Search, search, "POST", KB "/search", search_request, search_response, READ, INLINE,
        "Search a version by words, by meaning, or by both"),
    RPC(Retrieval, SearchBatch, search_batch, "POST", KB "/search:batch", search_batch_request, search_batch_response,
        READ, POOL, "Several searches; those of one ref see one commit"),
    RPC(Retrieval, Facets, facets, "POST", KB "/facets", facets_request, facets_response, READ, POOL,
        "The values of metadata fields, counted over the documents of a version that pass a filter"),

    RPC(Operations, ListJobs, list_jobs, "GET", "/v1/jobs", list_jobs_request, list_jobs_response, READ, POOL,
        "Jobs, newest first"),
    RPC(Operations, GetJob, get_job, "GET", "/v1/jobs/{id}", get_job_request, job, READ, POOL,
        "A job's state; with wait_ms, once it has ended"),
    RPC(Operations, PauseJob, pause_job, "POST", "/v1/jobs/{id}:pause", job_request, job, ADMIN, POOL, "Pause a job"),
    RPC(Operations, ResumeJob, resume_job, "POST", "/v1/jobs/{id}:resume", job_request, job, ADMIN, POOL,
        "Resume a paused job"),
    RPC(Operations, CancelJob, cancel_job, "POST", "/v1/jobs/{id}:cancel", job_request, job, ADMIN, POOL,
        "Cancel a job"),
    RPC(Operations, CreateKey, create_key, "POST", "/v1/keys", create_key_request, create_key_response, ADMIN, POOL,
        "Create an API key; the secret is shown once"),
    RPC(Operations, ListKeys, list_keys, "GET", "/v1/keys", list_keys_request, list_keys_response, ADMIN, INLINE,
        "API keys, without their secrets"),
    RPC(Operations, DeleteKey, delete_key, "DELETE", "/v1/keys/{id}", delete_key_request, empty, ADMIN, POOL,
        "Delete an API key"),
    RPC(Operations, RotateKey, rotate_key, "POST", "/v1/keys/{id}:rotate", rotate_key_request, create_key_response,
        ADMIN, POOL, "Give an API key a new secret; the old one ends after grace_seconds"),
    RPC(Operations, GetStatus, get_status, "GET", "/v1/status", status_request, status, READ, POOL,
        "The server: version, sizes, whether it takes writes"),
    RPC(Operations, CreateBackup, create_backup, "POST", "/v1/backups", create_backup_request, job_started, ADMIN, POOL,
        "Back the store up, online, into the server's backup directory"),
    RPC(Operations, ListBackups, list_backups, "GET", "/v1/backups", list_backups_request, list_backups_response, ADMIN,
        POOL, "Backups, newest first"),
    RPC(Operations, VerifyBackup, verify_backup, "POST", "/v1/backups/{id}:verify", backup_request, job_started, ADMIN,
        POOL, "Read every byte of a backup and check it"),
    RPC(Operations, DeleteBackup, delete_backup, "DELETE", "/v1/backups/{id}", backup_request, empty, ADMIN, POOL,
        "Delete a backup"),
    RPC(Operations, Check, check, "POST", "/v1/check", check_request, job_started, ADMIN, POOL,
        "Read and check every row of the store"),

    PLAIN("healthz", "GET", "/healthz", healthz, NONE, INLINE, "Whether the process answers"),
    PLAIN("readyz", "GET", "/readyz", readyz, NONE, INLINE, "Whether the server takes requests; 503 with the reason"),
    PLAIN("metrics", "GET", "/metrics", metrics, READ, POOL, "Numbers in Prometheus text format"),
    PLAIN("openapi.json", "GET", "/openapi.json", openapi_json, NONE, POOL, "This document"),
};
const size_t rag_api__route_count = RAG_COUNT_OF(rag_api__routes);
