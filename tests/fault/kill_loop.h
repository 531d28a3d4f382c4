// The kill -9 harness: what its files share. What it does and how is at the top of kill_loop.c.
#ifndef RAGD_TESTS_FAULT_KILL_LOOP_H
#define RAGD_TESTS_FAULT_KILL_LOOP_H

#include <pthread.h>

#include "base/base.h"
#include "base/json.h"

#define CLIENTS 4u
#define SLOTS 24u        // documents that a client writes, over and over
#define REFS 12u         // tags and branches of a client that are remembered
#define ACKS_MAX 4096u   // of one client in one round
#define OLD_ACKS_MAX 64u // of earlier rounds, a random sample, checked again in every round
#define OP_SLOTS_MAX 6u
#define GROUPS 6u            // of documents, by their metadata: what is deleted by a filter
#define GC_KEEP_COMMITS 150u // of each branch
#define JOBS_MAX 256u        // of a client in one round
#define KB "kills"

// ---------------------------------------------------------------------------------------------- chance

typedef struct random {
  uint64_t state;
} random_source;
uint64_t random_next(random_source *r);
uint32_t random_below(random_source *r, uint32_t bound);

// ---------------------------------------------------------------------------------------------- HTTP (kill_http.c)

typedef struct http http_connection;
http_connection *http_open(const char *url);
void http_close(http_connection *http);
// Sends JSON (body NULL: none). False: no whole answer came, so the outcome is unknown. *out_status and the parsed
// answer live until the next request. idempotency_key may be NULL.
bool http_request(http_connection *http, const char *method, const char *path, const rag_buf *body,
                  const char *idempotency_key, int *out_status, rag_json *answer);
rag_slice json_text(rag_json object, const char *name);
uint64_t json_uint(rag_json object, const char *name);
bool json_bool(rag_json object, const char *name);

// ---------------------------------------------------------------------------------------------- the model

// Versions of a client's documents, by slot; 0: not there. A version is never used twice, and the text follows from
// (client, slot, version), so equal versions are equal texts and nothing else is.
typedef struct kill_state {
  uint32_t version[SLOTS];
} kill_state;

typedef enum kill_place { MAIN = 0, SIDE = 1 } kill_place; // the branch of all clients, and the client's own

typedef enum op_kind {
  OP_PUT,
  OP_MERGE,
  OP_ROLLBACK,
  OP_DELETE_FILTER, // so far: commits, and a retry is recognised
  OP_TAG,
  OP_BRANCH,
  OP_REF_DELETE,
  OP_PURGE, // of documents of which the first is alive on main, so that its doing can be seen there
  OP_GC,
} op_kind;
static inline bool op_commits(op_kind kind) {
  return kind <= OP_DELETE_FILTER;
}

typedef struct kill_ref { // a tag, or a branch that nobody writes to
  char name[32];
  bool branch;
  bool deleted; // acknowledged
  kill_state is;
} kill_ref;

// What a client is doing: from before the request is sent until its answer was taken in.
typedef struct kill_op {
  op_kind kind;
  kill_place place;
  uint64_t sequence;
  kill_state after; // of `place`, or of the ref
  uint32_t ref;     // OP_TAG, OP_BRANCH, OP_REF_DELETE, OP_ROLLBACK: which
  uint32_t group;   // OP_DELETE_FILTER
  uint32_t touched[OP_SLOTS_MAX], touched_count;
  char key[48]; // Idempotency-Key
} kill_op;

typedef struct kill_ack { // an acknowledged commit
  uint64_t commit;
  kill_place place;
  uint64_t sequence;
  kill_state is;
} kill_ack;

typedef struct kill_client {
  uint32_t number;
  random_source random;
  const char *url;
  uint64_t sequence;
  uint32_t next_version;
  kill_state now[2];    // by place: what the last acknowledged write left
  kill_state base;      // of SIDE when it was last merged into MAIN
  kill_state before[2]; // some earlier state: texts of it must not be found
  kill_ref refs[REFS];
  uint32_t ref_count, ref_serial;
  bool pending; // `op` was sent and not answered
  kill_op op;
  kill_ack acks[ACKS_MAX];
  uint32_t ack_count;
  kill_ack old[OLD_ACKS_MAX];
  uint32_t old_count;
  uint64_t jobs[JOBS_MAX]; // acknowledged and not seen to end
  uint32_t job_count;
  bool gc_asked;         // of any client: versions that nothing keeps may be gone
  uint64_t acknowledged; // in all rounds
  uint32_t patience; // times that a refused request is sent again: what the mutant published is unreadable for a while
} kill_client;

void sleep_us(uint64_t us);

// kill_client.c
void text_of(uint32_t client, uint32_t slot, uint32_t version, rag_buf *out);
void id_of(uint32_t client, uint32_t slot, char out[32]);
const char *branch_of(const kill_client *c, kill_place place, char out[16]);
void message_of(uint32_t client, uint64_t sequence, char out[32]);
// Creates the client's own branch. Aborts the program when it cannot.
void client_begin(kill_client *c);
void *client_run(void *client); // until the daemon is gone, or ACKS_MAX
// Sends c->op, also again, with its key. True: answered; *commit: of a purge and a gc the job; *replayed: from memory.
bool op_send(kill_client *c, http_connection *http, int *http_status, uint64_t *commit, bool *replayed);
void op_acknowledged(kill_client *c, uint64_t commit); // takes c->op into the model

// kill_check.c
// After a restart: everything acknowledged is there and nothing else; in-flight work is there whole or not at all, and
// is taken into the model. Returns the number of violations, each printed.
unsigned check_all(kill_client *clients, const char *url, random_source *random);
extern uint64_t checks_made, pending_kept, pending_lost, replays, jobs_seen, jobs_resumed,
    versions_gone; // of all rounds

#endif
