# Goal: through the real programs, too, nothing outside of what was named is read, made, changed or removed.
# Method: folders with links and odd names are put and synced, in process and to a daemon, and no text from outside may be
# in any document; raw targets go to the daemon as no polite client would send them; hostile names in every option that
# takes one; backup folders with traps are verified, restored and deleted. In the end the places outside hold what they
# held, to the byte and to the last name.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

secret='nobody may read this sentence'
mkdir -p outside/deep notes/sub notes-private
printf '%s\n' "$secret" | tee outside/file.md outside/deep/file.md notes-private/file.md >/dev/null
outside() {
  (find outside notes-private -printf "%p %y %s\n" && cat outside/*.md outside/deep/*.md notes-private/*.md) | sort | sha256sum
}
before=$(outside)
untouched() { same "$(outside)" "$before" "what lies outside, after $*"; }

# ---------------------------------------------------------------- a folder with links and odd names
printf 'an honest text\n' >notes/honest.md
printf 'another honest text\n' >notes/sub/inner.md
ln -s honest.md notes/inside.md
ln -s ../honest.md notes/sub/up-but-inside.md
ln -s ../outside/file.md notes/relative.md
ln -s "$work/outside/file.md" notes/absolute.md
ln -s ../notes-private/file.md notes/same-prefix.md # "notes" is how its path begins
ln -s relative.md notes/chain.md
ln -s ../../outside/deep/file.md notes/sub/deep.md
ln -s /proc/self/environ notes/environ.md
ln -s ../outside notes/folder
ln -s . notes/circle
ln -s /dev/zero notes/endless.md
mkfifo notes/pipe.md
i=0
for name in '..md' 'a..b.md' 'x..%2foutside%2ffile.md' '%2e%2e.md' 'back\slash..\file.md' $'new\nline.md' \
  $'\xc0\xae\xc0\xae.md' ' .md' '-rf.md' '$(touch made).md' '`touch made`.md'; do
  i=$((i + 1))
  printf 'honest text number %s\n' "$i" >"notes/$name"
done

# look WHERE...: what the knowledge base has after a put or a sync.
look() {
  for id in honest.md inside.md sub/inner.md sub/up-but-inside.md 'a..b.md' 'x..%2foutside%2ffile.md' \
    'back\slash..\file.md' '$(touch made).md'; do
    try 0 "$ragctl" "$@" get docs "$id" --text
    says 'honest text'
  done
  for id in relative.md absolute.md same-prefix.md chain.md sub/deep.md environ.md folder/file.md endless.md pipe.md; do
    try 1 "$ragctl" "$@" get docs "$id"
  done
  try 0 "$ragctl" "$@" --json search docs "$secret" -k 50
  silent_about 'nobody may read'
  try 0 "$ragctl" "$@" ls docs --json
  silent_about 'nobody may read'
}
left_out() {
  for name in relative.md absolute.md same-prefix.md chain.md sub/deep.md environ.md; do
    complains "left out .*$name: it is a link to a file outside the folder"
  done
  complains 'folder: it is a link to a folder'
  complains 'endless.md: it is no file'
  complains 'pipe.md: it is no file'
}

start served --backup-dir backups --audit-log audit.log --slow-query-ms 1
for where in "--data local" "--url $url"; do
  try 0 "$ragctl" $where kb create docs
  for command in put sync; do
    try 0 timeout 60 "$ragctl" $where "$command" docs notes
    left_out
    look $where
    untouched "$command $where"
  done
done
# The folder itself may be a link, and a file that was named is read wherever it is: the operator said so.
ln -s notes named
try 0 "$ragctl" --data local sync docs named
look --data local
try 0 "$ragctl" --data local put docs notes/relative.md
try 0 "$ragctl" --data local get docs notes/relative.md --text
says "$secret"
try 0 "$ragctl" --data local put docs ../"$(basename "$work")"/outside/file.md
try 0 "$ragctl" --data local get docs file.md # under its name alone
try 1 "$ragctl" --data local get docs ../outside/file.md
[[ ! -e made && ! -e notes/made ]] || fail 'a name was run'

# ---------------------------------------------------------------- targets as they are
try 0 "$ragctl" --url "$url" kb show docs
for target in /../outside/file.md /../../../../etc/passwd /%2e%2e/outside/file.md /..%2foutside%2ffile.md \
  //outside/file.md /v1/../../outside/file.md /v1/kbs/docs/export/../../../../outside/file.md \
  /v1/kbs/docs/documents/..%2f..%2f..%2f..%2foutside%2ffile.md '/v1/kbs/..%5c..%5coutside' \
  /v1/kbs/%c0%ae%c0%ae%c0%afoutside /v1/kbs/docs%00/documents/honest.md /openapi.json/../outside/file.md \
  /v1/backups/..%2f..%2foutside /v1/backups/%2e%2e /v1/jobs/..%2f1; do
  for method in GET DELETE POST; do
    code=$(curl -s --path-as-is -o answer -w '%{http_code}' -X "$method" "$url$target")
    # Deleting a document that is not there is no error; nothing else is done.
    [[ $method$target != DELETE/v1/kbs/docs/documents/* || $code != 200 ]] || code=404
    [[ $code == 400 || $code == 404 || $code == 405 ]] || fail "$method $target was answered $code"
    ! grep -q 'nobody may read\|root:x' answer || fail "$method $target gave away a file"
  done
done
untouched 'raw targets'

# ---------------------------------------------------------------- names in options and bodies
for name in .. ../outside /etc/passwd '../../outside/file.md' 'a/../b' '..\outside' '%2e%2e%2foutside' $'\xc0\xae\xc0\xae/x'; do
  doors=("--url $url")
  [[ $name != /* && $name != ../* ]] || doors+=("--data local") # opens the store each time: some of the names
  for where in "${doors[@]}"; do
    for words in "kb create" "kb show" "kb delete --yes" "branch create docs" "tag create docs" "branch rm docs" \
      "branch delete docs" "get docs honest.md --at" "diff docs main" "merge docs" "rollback docs" "export"; do
      got=0
      "$ragctl" $where $words "$name" >out 2>err </dev/null || got=$?
      [[ $got == 1 || $got == 2 ]] || fail "$words '$name' ended with $got"
      ! grep -q 'nobody may read' out || fail "$words '$name' gave away a file"
    done
  done
done
for id in .. ../1 /1 1/../1 -1 0x1 '1 ' '' 1.0 99999999999999999999; do
  for words in "backup delete --yes" "backup verify"; do
    got=0
    "$ragctl" $words "$id" --from outside >out 2>err </dev/null || got=$?
    ((got == 1 || got == 2)) || fail "$words '$id' ended with $got"
  done
  got=0
  "$ragctl" restore --from outside --to restored --id "$id" >out 2>err </dev/null || got=$?
  ((got == 1 || got == 2)) || fail "restore --id '$id' ended with $got"
done
[[ ! -e restored ]] || fail 'something was restored'
untouched 'names'

# A name cannot begin a line of the audit log.
curl -s -o answer -X POST -H 'Content-Type: application/json' "$url/v1/kbs" \
  -d '{"name":"x\n{\"event\":\"forged\"}\n","model":"../../outside/file.md"}'
curl -s -o answer -X DELETE "$url/v1/kbs/%0a%7b%22event%22%3a%22forged%22%7d%0a"
try 0 "$ragctl" --url "$url" kb create another
stop
! grep -q '^{"event":"forged"' audit.log || fail 'a line was forged'
[[ $(grep -cv '^{"time":".*}$' audit.log) == 0 ]] || fail 'the audit log has a line that is none'
untouched 'the audit log'

# ---------------------------------------------------------------- backup folders with traps
try 0 "$ragctl" --data served backup create --to backups
trap_with() { rm -rf evil restored && cp -a backups evil; }

trap_with
ln -s "$work/outside" evil/engine/private/99 # what a removal of leftovers would empty
try 1 "$ragctl" backup delete 1 --from evil --yes
complains 'is a link'
untouched 'backup delete'
try 1 "$ragctl" --data served backup create --to evil
complains 'is a link'
untouched 'backup create'

trap_with
log=$(find evil/engine/private/1 -name 'MANIFEST-*')
mv "$log" stolen
ln -s "$work/stolen" "$log"
try 1 timeout 60 "$ragctl" restore --from evil --to restored
complains 'is a link'
try 1 timeout 60 "$ragctl" backup verify 1 --from evil
[[ ! -e restored && ! -e restored.restoring ]] || fail 'something was restored'

trap_with
rm evil/files/1/FORMAT
mkfifo evil/files/1/FORMAT
try 1 timeout 60 "$ragctl" restore --from evil --to restored
complains 'no regular file'
[[ ! -e restored ]] || fail 'something was restored'

trap_with
mv evil/manifests manifests.away
ln -s ../manifests.away evil/manifests
try 1 "$ragctl" restore --from evil --to restored
[[ ! -e restored ]] || fail 'something was restored'

trap_with
ln -s "$work/outside" restored.restoring
try 0 "$ragctl" restore --from evil --to restored
untouched 'a restore beside a link of its temporary name'
try 0 "$ragctl" --data restored get docs honest.md --text
says 'honest text'
