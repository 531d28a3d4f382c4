#!/usr/bin/env bash
# Goal: clients that share no code with ragd reach it, and all see the same.
# Method: one daemon; a raw protobuf client of another language (its own checks, without and with an API key), curl over
# REST and over RPC, and ragctl. The same search through each gives the same documents and scores.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
command -v python3 >/dev/null || skip 'python3 is not installed'
command -v curl >/dev/null || skip 'curl is not installed'
command -v jq >/dev/null || skip 'jq is not installed'

start data
try 0 python3 "$tests_dir/raw_protobuf_client.py" "$url"
says '^ok: RPC: the nearest two, in order$'
says '^ok: REST: their cosines$'

json=(curl -sS --fail-with-body -H 'Content-Type: application/json')
try 0 "${json[@]}" "$url/v1/kbs" -d '{"name": "animals"}'
try 0 "${json[@]}" "$url/v1/kbs/animals/documents" -d '{"documents": [
  {"id": "cat", "text": "The cat sat on the mat."},
  {"id": "dog", "text": "The dog barked at the cat."},
  {"id": "tea", "text": "Tea is best with milk."}]}'
says '"commit":"c2"'

rows='.hits[] | [.document_id, (.score * 1e6 | round)]'
try 0 "${json[@]}" "$url/v1/kbs/animals/search" -d '{"query": "a cat on a mat", "k": 2}'
rest=$(jq -c "$rows" out)
try 0 "${json[@]}" "$url/ragd.v1.Retrieval/Search" -d '{"kb": "animals", "query": "a cat on a mat", "k": 2}'
rpc=$(jq -c "$rows" out)
try 0 "$ragctl" --url "$url" --json search animals a cat on a mat -k 2
ctl=$(jq -c "$rows" out)
same "$rest" "$rpc" 'REST and RPC'
same "$rest" "$ctl" 'REST and ragctl'
[[ $(head -n 1 <<<"$rest") == '["cat",'* ]] || fail "the best hit is not the cat: $rest"

# With a key, whoever has none is turned away.
try 0 "$ragctl" --url "$url" --json key create operator --role admin
jq -r .secret out >key
try 0 python3 "$tests_dir/raw_protobuf_client.py" "$url" "$(<key)"
try 1 python3 "$tests_dir/raw_protobuf_client.py" "$url"
try 22 "${json[@]}" "$url/v1/kbs/animals/search" -d '{"query": "cat"}'
says '"code":"unauthenticated"'
stop
same "$stopped" 0 'exit status of a drained server'
echo 'passed'
