// Connections by client address, so that one client cannot take them all. A table of chains; an entry lives while its
// address has a connection, so the table is never larger than the connections are. Guarded by the server's lock.
#include <arpa/inet.h>

#include "api/http_internal.h"

static void address_of(const struct sockaddr *from, uint8_t out[16]) {
  memset(out, 0, 16);
  if (from && from->sa_family == AF_INET6) {
    const struct in6_addr *in6 = &((const struct sockaddr_in6 *)(const void *)from)->sin6_addr;
    // A client of IPv6 has a /64 to itself, and may change the rest with every connection.
    memcpy(out, in6, IN6_IS_ADDR_V4MAPPED(in6) ? 16 : 8);
  } else if (from && from->sa_family == AF_INET) {
    out[10] = out[11] = 0xff;
    memcpy(out + 12, &((const struct sockaddr_in *)(const void *)from)->sin_addr, 4);
  }
}

static http_peer **chain_of(http_peers *peers, const uint8_t address[16]) {
  return &peers->chains[rag_hash64(address, 16) % HTTP_PEER_CHAINS];
}

http_peer *http_peer_take(http_peers *peers, const struct sockaddr *address, uint32_t most) {
  uint8_t key[16];
  address_of(address, key);
  http_peer **chain = chain_of(peers, key), *peer = *chain;
  while (peer && memcmp(peer->address, key, sizeof(key)) != 0) peer = peer->next;
  if (!peer) {
    peer = rag_calloc(1, sizeof(*peer));
    if (!peer) return NULL;
    memcpy(peer->address, key, sizeof(key));
    peer->next = *chain;
    *chain = peer;
  }
  if (peer->count == most) return NULL;
  peer->count++;
  return peer;
}

void http_peer_drop(http_peers *peers, http_peer *peer) {
  RAG_ASSERT(peer->count > 0);
  if (--peer->count > 0) return;
  http_peer **at = chain_of(peers, peer->address);
  while (*at != peer) at = &(*at)->next;
  *at = peer->next;
  rag_free(peer);
}

void http_peer_text(const struct sockaddr *address, char out[INET6_ADDRSTRLEN]) {
  out[0] = '\0';
  if (!address) return;
  const void *bytes = address->sa_family == AF_INET6
                          ? (const void *)&((const struct sockaddr_in6 *)(const void *)address)->sin6_addr
                          : (const void *)&((const struct sockaddr_in *)(const void *)address)->sin_addr;
  if (!inet_ntop(address->sa_family, bytes, out, INET6_ADDRSTRLEN)) out[0] = '\0';
}
