# Backups as an operator makes them: online, listed, verified, kept to a number, restored elsewhere, checked; no request
# reaches another directory; and a backup that an earlier program made (tests/golden) still comes back with its answers.
source "$(dirname "$0")/common.sh"

put() { printf '{"id":"%s","text":"%s"}\n' "$2" "$3" >put.ndjson; try 0 "$ragctl" "$1" "$where" put docs put.ndjson; }

# In process.
where=data
try 0 "$ragctl" --data data kb create docs
put --data a 'the first text'
try 1 "$ragctl" --data data backup create # where to?
complains 'no backup directory'
try 0 "$ragctl" --data data backup create --to backups
says '^backup 1: '
try 1 "$ragctl" --data data backup create --to data/inside
complains 'lies in the data directory'
put --data b 'the second text'

# Of a server, while it writes.
start data --backup-dir backups
where=$url
(for i in $(seq 1 40); do
  printf '{"id":"w%s","text":"written beside the backup %s"}\n' "$i" "$i" >w.ndjson
  "$ragctl" --url "$url" put docs w.ndjson >/dev/null 2>&1 || true
done) &
writer=$!
try 0 "$ragctl" --url "$url" backup create
says '^backup 2: '
wait "$writer"
try 0 "$ragctl" --url "$url" backup list
says '^ *2 +complete'
says '^ *1 +complete'
try 0 "$ragctl" --url "$url" backup verify 2
try 1 "$ragctl" --url "$url" backup verify 77
try 1 "$ragctl" --data data backup create --to elsewhere # the server's directory is the server's
complains 'its own --backup-dir'
[[ ! -e elsewhere ]] || fail 'a directory was made'
for path in '/v1/backups/..%2f..%2fetc:verify' '/v1/backups/%2e%2e:verify' '/v1/backups/1%2f..%2f2:verify'; do
  code=$(curl -s -o out -w '%{http_code}' -X POST "$url$path")
  [[ $code == 400 || $code == 404 ]] || fail "$path was answered $code"
done
try 0 "$ragctl" --url "$url" check
says 'all is well'
try 0 "$ragctl" --url "$url" backup create --keep 2
says '1 older ones removed'
stop_daemon() { kill "$pid"; wait "$pid" || true; }
stop_daemon

# Restored.
try 0 "$ragctl" backup verify --from backups
says '^backup 3 is whole'
try 0 "$ragctl" restore --from backups --to again
try 0 "$ragctl" --data again get docs w40 --text
says 'written beside the backup 40'
try 0 "$ragctl" restore --from backups --to second --id 2
try 0 "$ragctl" --data second get docs b --text # what was there before it
says 'the second text'
try 0 "$ragctl" --data second check
try 1 "$ragctl" restore --from backups --to second
complains 'not empty'
try 1 "$ragctl" restore --from backups --to third --id 1
[[ ! -e third ]] || fail 'a failed restore left a directory'
try 2 "$ragctl" restore --from backups

# Damaged: named, and not restored.
table=$(find backups/engine/shared_checksum -name '*.sst' | sort | tail -1)
printf 'X' | dd of="$table" bs=1 seek=100 conv=notrunc status=none
try 1 "$ragctl" backup verify 3 --from backups
complains "$(basename "$table") is damaged"
table=$(find again/db -name '*.sst' -size +1 | sort | head -1)
printf 'XXXX' | dd of="$table" bs=1 seek=20 conv=notrunc status=none
try 1 "$ragctl" --data again check
try 0 "$ragctl" backup delete 3 --from backups --yes

# Of an earlier program.
mkdir golden
tar -C golden -xzf "$repository/tests/golden/backup_v1.tar.gz"
try 0 "$ragctl" backup verify 1 --from golden
try 0 "$ragctl" restore --from golden --to old
try 0 "$ragctl" --data old get docs a --text
says '^the first text, of mice'
try 0 "$ragctl" --data old get docs a --at v1 --text
says '^the first text, of cats'
try 0 "$ragctl" --data old log docs --oneline
same "$(cut -d' ' -f1,2 out | tr '\n' ' ')" 'c3 (main) c2 (tag: c1 init '
try 0 "$ragctl" --data old search docs cats --at v1 --mode vector --exact --json
says '"document_id":"a".*"score":0\.8180958,.*"document_id":"b"'
try 0 "$ragctl" --data old check
says 'all is well'
