# Goal: TLS as an operator sets it up: nothing older than 1.2, a certificate that can be changed without a stop, clear
# refusals of what cannot work, ragctl through it; and requests of every lane work through it as they do without.
# Method: certificates made here by openssl, a real daemon, curl and openssl s_client as clients that are not ours.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
command -v openssl >/dev/null || skip 'openssl is not there'
command -v curl >/dev/null || skip 'curl is not there'

# certificate NAME: NAME.pem and NAME.key, of the authority ca.pem, for 127.0.0.1 and localhost.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3 -subj '/CN=test authority' \
  -keyout ca.key -out ca.pem 2>/dev/null
certificate() {
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=$1" -keyout "$1.key" -out "$1.csr" \
    2>/dev/null
  openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 3 -out "$1.pem" 2>/dev/null \
    -extfile <(printf 'subjectAltName=IP:127.0.0.1,DNS:localhost')
}
certificate first
certificate second
cp first.pem tls.pem
cp first.key tls.key

# --- what cannot work is said at the start
try 1 "$ragd" serve --data data --listen 127.0.0.1:0 --tls-certificate-file tls.pem
complains 'TLS needs both'
if "$ragd" serve --data data --listen 127.0.0.1:0 --tls-certificate-file nowhere.pem --tls-key-file tls.key 2>err; then
  fail 'it started without its certificate'
fi
if grep -Eq 'built without' err; then skip "$(tail -n 1 err)"; fi
complains 'nowhere.pem'
try 1 "$ragd" serve --data data --listen 127.0.0.1:0 --tls-certificate-file tls.pem --tls-key-file second.key
complains 'second.key: is not the unencrypted PEM key'
try 1 "$ragd" serve --data data --listen 127.0.0.1:0 --tls-certificate-file first.key --tls-key-file tls.key
complains 'no certificate in PEM'

# --- it speaks HTTPS, and nothing else
start_tls() {
  : >ready
  "$ragd" serve --data data --listen 127.0.0.1:0 --tls-certificate-file tls.pem --tls-key-file tls.key \
    --log-level info "$@" >ready 2>>ragd.log &
  pid=$!
  daemons+=("$pid")
  for ((i = 0; i < 600; i++)); do
    if grep -q listening ready; then break; fi
    kill -0 "$pid" 2>/dev/null || fail "ragd did not start: $(tail -n 5 ragd.log)"
    sleep 0.05
  done
  url=$(grep -o 'https://[^,]*' ready) || fail "$(cat ready)"
}
start_tls --header-timeout-s 2 --body-bytes-max 1MiB
same "$(cat data/ENDPOINT)" "$url"
address=${url#https://}
try 0 curl -sSf --cacert ca.pem "$url/healthz"
says '"ok"'
try 60 curl -sS "$url/healthz" # of an authority that nobody knows
curl -sS -m 10 "http://$address/healthz" >out 2>err && fail 'plain text was answered'

# --- 1.2 and 1.3, nothing before
hello() { openssl s_client -connect "$address" -CAfile ca.pem "$@" </dev/null >out 2>err; }
hello -tls1_2 || fail 'TLS 1.2 is not spoken'
says 'TLSv1.2'
says 'Verify return code: 0'
hello -tls1_3 || fail 'TLS 1.3 is not spoken'
says 'TLSv1.3'
for old in -tls1 -tls1_1; do
  if hello "$old" -cipher 'ALL:@SECLEVEL=0'; then fail "$old is spoken"; fi
done

# --- every lane: look-ups, writes, streams both ways, refusals in the middle of a body, many requests on a connection
try 0 "$ragctl" --url "$url" --ca-file ca.pem kb create docs
seq 1 20000 | sed 's/.*/{"id":"d&","text":"document & of many"}/' >many.ndjson
try 0 "$ragctl" --url "$url" --ca-file ca.pem put docs many.ndjson
says '20,?000 added'
try 0 "$ragctl" --data data --ca-file ca.pem search docs 'document 77' -k 3 # through the endpoint file
says 'd77'
try 0 "$ragctl" --url "$url" --ca-file ca.pem kb export docs docs.ragkb
try 0 "$ragctl" --data other kb import docs.ragkb --name copy
try 0 "$ragctl" --data other get copy d20000 --text
same "$(cat out)" 'document 20000 of many'
head -c 3000000 /dev/zero | tr '\0' x >large
code=$(curl -sS --cacert ca.pem -o out -w '%{http_code}' -H 'Content-Type: application/json' --data-binary @large \
  "$url/v1/kbs/docs/search") || true
same "$code" 413
code=$(curl -sS --cacert ca.pem -o out -w '%{http_code}' -H 'Content-Type: application/json' -H 'Expect:' \
  -H 'Transfer-Encoding: chunked' --data-binary @large "$url/v1/kbs/docs/search" 2>err) || true
same "$code" 413 'a body that is refused between two of its parts'
says 'limit'
for ((i = 0; i < 300; i++)); do printf 'url = "%s/v1/kbs/docs/documents/d%d"\n' "$url" $((i + 1)); done >urls
curl -sS --cacert ca.pem -w '\n%{num_connects}\n' -K urls >out 2>err || fail 'keep-alive'
same "$(grep -c '"id":"d' out)" 300
same "$(grep -c '^1$' out)" 1 'one connection for all'
# pipelined in one record: the second request lies decrypted in the library's buffer, where no event tells of it
same "$(printf 'GET /healthz HTTP/1.1\r\nHost: a\r\n\r\nGET /readyz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n' |
  openssl s_client -connect "$address" -CAfile ca.pem -quiet -ign_eof 2>/dev/null | grep -c 'HTTP/1.1 200')" 2

# --- who does not trust it is told what to do, and its key stays with it
try 1 "$ragctl" --url "$url" kb list
complains 'not trusted .*--ca-file|certificate is not trusted'

# --- a client that never finishes its handshake is closed
exec 8<>"/dev/tcp/${address%:*}/${address##*:}"
printf '\x16\x03\x01' >&8
timeout 30 cat <&8 >/dev/null || fail 'a handshake may take for ever'
exec 8>&-

# --- SIGHUP: new connections get the new certificate; a broken one changes nothing
shown() { openssl s_client -connect "$address" </dev/null 2>/dev/null | sed -n 's/^subject=CN *= *//p'; }
same "$(shown)" first
cp second.pem tls.pem
cp second.key tls.key
kill -HUP "$pid"
for ((i = 0; i < 200; i++)); do
  if grep -q tls.reloaded ragd.log; then break; fi
  sleep 0.05
done
same "$(shown)" second
try 0 curl -sSf --cacert ca.pem "$url/healthz"
echo nonsense >tls.pem
kill -HUP "$pid"
for ((i = 0; i < 200; i++)); do
  if grep -q ragd.not_reloaded ragd.log; then break; fi
  sleep 0.05
done
grep -q 'ragd.not_reloaded.*no certificate in PEM' ragd.log || fail 'a broken certificate was not reported'
same "$(shown)" second 'after a reload that failed'
stop
same "$stopped" 0 'exit status'

# --- plain text on an address that others reach: only with a key, and with a warning
try 1 "$ragd" serve --data data --listen 0.0.0.0:0
complains 'no API key exists'
try 0 "$ragctl" --data data key create root --role admin
: >ragd.log
start data --listen 0.0.0.0:0
grep -q 'http.plain_text' ragd.log || fail 'no warning of plain text'
stop
