// TLS: the certificate and its key, checked when they are read, and handed to each handshake. GnuTLS, because
// libmicrohttpd uses it; this is the only file that includes it.
//
// Reloading: libmicrohttpd takes a certificate once, at its start. So it gets a callback instead, and each handshake gets
// a copy parsed from the PEM texts that are current then (some 50 microseconds beside a handshake's thousand); GnuTLS
// frees it with the session, and a reload has nobody to wait for.
//
// The callback has no argument of ours: the current texts are the process's, and one server with TLS at a time may run.
//
// Threads: any; `lock` guards `current` and is held to take a reference only. A pair of texts is immutable.
#include "api/http_internal.h"

#if defined(RAGD_HAVE_GNUTLS)
#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <time.h>

#define PEM_BYTES_MAX (1u << 20)
#define CHAIN_MAX 16u
#define NEAR_ITS_END_S (14 * 86400)

typedef struct pems {
  rag_ref ref;
  gnutls_datum_t certificate, key; // owned
} pems;

struct http_tls {
  char *certificate_file, *key_file;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pems *current; // guarded by: lock; a reference; NULL: no server has TLS

static void pems_destroy(rag_ref *ref) {
  pems *p = (pems *)ref;
  if (p->key.data) explicit_bzero(p->key.data, p->key.size);
  rag_free(p->key.data);
  rag_free(p->certificate.data);
  rag_free(p);
}

static rag_status read_pem(const char *path, gnutls_datum_t *out, rag_error *err) {
  char *text = NULL;
  size_t size = 0;
  RAG_TRY(rag_os_read_file(path, PEM_BYTES_MAX, &text, &size, err));
  *out = (gnutls_datum_t){(unsigned char *)text, (unsigned)size};
  return RAG_OK;
}

static rag_status fail_gnutls(const char *field, const char *path, const char *what, int code, rag_error *err) {
  return rag_fail_field(err, RAG_INVALID_ARGUMENT, field, "%s: %s: %s", path, what, gnutls_strerror(code));
}

// A key for another certificate would let every handshake fail, with a reason that only clients see.
static rag_status check_pair(const http_tls *tls, const pems *p, rag_error *err) {
  rag_status status = RAG_OK;
  gnutls_certificate_credentials_t credentials = NULL;
  gnutls_x509_crt_t *chain = NULL;
  unsigned count = 0;
  int code = gnutls_x509_crt_list_import2(&chain, &count, &p->certificate, GNUTLS_X509_FMT_PEM, 0);
  if (code < 0)
    RAG_TRY_OUT(fail_gnutls("tls_certificate_file", tls->certificate_file, "no certificate in PEM", code, err));
  if (count > CHAIN_MAX)
    RAG_TRY_OUT(rag_fail_field(err, RAG_INVALID_ARGUMENT, "tls_certificate_file",
                               "%s: %u certificates, over %u; leave out those that do not lead to the root",
                               tls->certificate_file, count, CHAIN_MAX));
  code = gnutls_certificate_allocate_credentials(&credentials);
  if (code < 0) RAG_TRY_OUT(rag_fail_no_memory(err, 1));
  code = gnutls_certificate_set_x509_key_mem(credentials, &p->certificate, &p->key, GNUTLS_X509_FMT_PEM);
  if (code < 0)
    RAG_TRY_OUT(
        fail_gnutls("tls_key_file", tls->key_file, "is not the unencrypted PEM key of the certificate", code, err));
  time_t ends = gnutls_x509_crt_get_expiration_time(chain[0]), now = time(NULL);
  if (ends < now + NEAR_ITS_END_S)
    rag_log(RAG_LOG_WARN, "tls.certificate_ends", "file=%s in_hours=%lld", tls->certificate_file,
            (long long)(ends - now) / 3600);
out:
  if (credentials) gnutls_certificate_free_credentials(credentials);
  for (unsigned i = 0; i < count; i++) gnutls_x509_crt_deinit(chain[i]);
  gnutls_free(chain);
  return status;
}

static rag_status pems_read(const http_tls *tls, pems **out, rag_error *err) {
  rag_status status = RAG_OK;
  pems *p = rag_calloc(1, sizeof(*p));
  if (!p) return rag_fail_no_memory(err, sizeof(*p));
  rag_ref_init(&p->ref, pems_destroy);
  RAG_TRY_OUT(read_pem(tls->certificate_file, &p->certificate, err));
  RAG_TRY_OUT(read_pem(tls->key_file, &p->key, err));
  RAG_TRY_OUT(check_pair(tls, p, err));
  *out = p;
  p = NULL;
out:
  rag_ref_drop(p);
  return status;
}

rag_status http_tls_open(const char *certificate_file, const char *key_file, http_tls **out, rag_error *err) {
  rag_status status = RAG_OK;
  pems *p = NULL;
  http_tls *tls = rag_calloc(1, sizeof(*tls));
  if (!tls) return rag_fail_no_memory(err, sizeof(*tls));
  tls->certificate_file = rag_strdup(certificate_file);
  tls->key_file = rag_strdup(key_file);
  if (!tls->certificate_file || !tls->key_file) RAG_TRY_OUT(rag_fail_no_memory(err, 1));
  RAG_TRY_OUT(pems_read(tls, &p, err));
  pthread_mutex_lock(&lock);
  bool taken = current != NULL;
  if (!taken) current = p;
  pthread_mutex_unlock(&lock);
  if (taken) {
    rag_ref_drop(p);
    RAG_TRY_OUT(rag_fail(err, RAG_FAILED_PRECONDITION, "another server of this process has TLS already"));
  }
  *out = tls;
  return RAG_OK;
out:
  rag_free(tls->certificate_file);
  rag_free(tls->key_file);
  rag_free(tls);
  return status;
}

static void set_current(pems *p) {
  pthread_mutex_lock(&lock);
  pems *old = current;
  current = p;
  pthread_mutex_unlock(&lock);
  rag_ref_drop(old);
}

void http_tls_close(http_tls *tls) {
  if (!tls) return;
  set_current(NULL);
  rag_free(tls->certificate_file);
  rag_free(tls->key_file);
  rag_free(tls);
}

rag_status http_tls_reload(http_tls *tls, rag_error *err) {
  pems *p = NULL;
  RAG_TRY(pems_read(tls, &p, err));
  set_current(p);
  rag_log(RAG_LOG_INFO, "tls.reloaded", "certificate=%s", tls->certificate_file);
  return RAG_OK;
}

const char *http_tls_priorities(void) {
  return "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2";
}

static int parse(const pems *p, gnutls_pcert_st **out, unsigned *out_count, gnutls_privkey_t *out_key) {
  unsigned count = CHAIN_MAX;
  gnutls_privkey_t key = NULL;
  gnutls_pcert_st *chain = gnutls_calloc(CHAIN_MAX, sizeof(*chain));
  if (!chain) return -1;
  if (gnutls_pcert_list_import_x509_raw(chain, &count, &p->certificate, GNUTLS_X509_FMT_PEM, 0) < 0) {
    gnutls_free(chain);
    return -1;
  }
  if (gnutls_privkey_init(&key) < 0 || gnutls_privkey_import_x509_raw(key, &p->key, GNUTLS_X509_FMT_PEM, NULL, 0) < 0) {
    if (key) gnutls_privkey_deinit(key);
    for (unsigned i = 0; i < count; i++) gnutls_pcert_deinit(&chain[i]);
    gnutls_free(chain);
    return -1;
  }
  *out = chain;
  *out_count = count;
  *out_key = key;
  return 0;
}

static int retrieve(gnutls_session_t session, const struct gnutls_cert_retr_st *info, gnutls_pcert_st **certificates,
                    unsigned *count, gnutls_ocsp_data_st **ocsp, unsigned *ocsp_count, gnutls_privkey_t *key,
                    unsigned *flags) {
  RAG_UNUSED(session);
  RAG_UNUSED(info);
  pthread_mutex_lock(&lock);
  pems *p = rag_ref_take(current);
  pthread_mutex_unlock(&lock);
  if (!p) return -1;
  int result = parse(p, certificates, count, key);
  rag_ref_drop(p);
  *ocsp = NULL;
  *ocsp_count = 0;
  *flags = GNUTLS_CERT_RETR_DEINIT_ALL; // what is above is the session's
  return result;
}

void *http_tls_callback(void) {
  gnutls_certificate_retrieve_function3 *function = retrieve;
  void *pointer;
  memcpy(&pointer, &function, sizeof(pointer)); // POSIX says that it fits
  return pointer;
}

ssize_t http_tls_send(void *session, const void *data, size_t size) {
  size_t sent = 0;
  while (sent < size) {
    ssize_t n = gnutls_record_send(session, (const char *)data + sent, size - sent);
    if (n == GNUTLS_E_INTERRUPTED) continue;
    if (n <= 0) return sent > 0 ? (ssize_t)sent : n;
    sent += (size_t)n;
  }
  return (ssize_t)sent;
}

#else

struct http_tls {
  char unused;
};

rag_status http_tls_open(const char *certificate_file, const char *key_file, http_tls **out, rag_error *err) {
  RAG_UNUSED(certificate_file);
  RAG_UNUSED(key_file);
  RAG_UNUSED(out);
  return rag_fail_field(err, RAG_UNIMPLEMENTED, "tls_certificate_file",
                        "this ragd was built without GnuTLS and speaks no TLS; build it with libgnutls28-dev, or let a "
                        "proxy speak TLS");
}
void http_tls_close(http_tls *tls) {
  RAG_UNUSED(tls);
}
rag_status http_tls_reload(http_tls *tls, rag_error *err) {
  RAG_UNUSED(tls);
  return rag_fail(err, RAG_UNIMPLEMENTED, "there is no TLS");
}
const char *http_tls_priorities(void) {
  return "";
}
void *http_tls_callback(void) {
  return NULL;
}
ssize_t http_tls_send(void *session, const void *data, size_t size) {
  RAG_UNUSED(session);
  RAG_UNUSED(data);
  RAG_UNUSED(size);
  return -1;
}

#endif
