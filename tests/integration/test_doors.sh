# Goal: ragctl means the same over HTTP and in process.
# Method: one script of commands, run against a daemon and against a second directory without one; every answer (--json)
# must be the same but for times, durations and the place of the data. Then: in-process work is there for a daemon.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

mkdir -p files/deep
printf '# Ünï — a title #\n\nDocuments have text, und auch Umlaute: äöü. 日本語も。\n' >files/one.md
printf 'plain text about apples and pears\n' >files/deep/two.txt
printf 'bananas are yellow, and so are lemons\n' >'files/with space&.txt'
printf '\377\376binary' >files/image.bin
: >files/empty.md
ln -s nowhere files/broken
printf 'hidden\n' >files/.hidden
printf '%s\n' '{"id":"n/1","text":"one from a stream","metadata":{"n":1}}' '' \
  '{"id":"n/2","text":"two from a stream","metadata":{"n":2.5,"deep":{"a":[null,true]}}}' >stream.ndjson
printf '%s\n' '{"id":"n/1","text":"fine"}' '{"id":"","text":"no id"}' >bad.ndjson

# Each line: the exit status that it must have, and the command. $kb stands for the name.
cat >script <<'END'
0 kb create docs --description some --max-tokens 64
1 kb create docs
1 kb create Docs
1 kb create other --model nothing-like-it
0 kb create vectors --dimension 3 --metric l2
0 kb list
0 kb create tuned --engine faiss --factory SQ8 --target-recall 0.9 --memory-max 1000000000
0 kb update tuned --target-recall 0.95
1 kb update tuned --factory nonsense
1 kb update tuned --engine flat
2 kb update tuned --target-recall 2
0 kb update tuned --engine ivf
0 kb show tuned
0 kb show docs
1 kb show nothing
0 put docs files -m first --author me
0 put docs files
0 sync docs files/deep --branch main -m smaller
0 put docs stream.ndjson --prefix ignored/
0 import docs stream.ndjson --batch 1
1 import docs bad.ndjson
1 import nothing stream.ndjson
1 put docs bad.ndjson
1 put docs stream.ndjson --branch nothing
0 ls docs
0 get docs two.txt
1 get docs one.md
0 get docs one.md --at c2
0 patch docs n/1 {"n":null,"lang":"en"}
1 patch docs n/1 [1]
0 get docs n/1
0 search docs apples pears -k 2 --exact
0 search docs apples pears -k 2 --at c2 --include text,plan
1 search docs apples -k 0
1 search docs apples --at c99
1 search docs apples --mode sideways
1 search vectors --vector [1,2]
0 search vectors --vector [1,2,3]
0 branch create docs side
1 branch create docs side
1 branch create docs c7
0 rm docs n/2 never-there --branch side -m away
0 merge docs side -m back
1 merge docs nothing
0 tag create docs v1 c2
0 branch list docs
0 tag list docs
0 log docs
0 log docs main~1
0 show docs v1
0 diff docs v1 main --text
1 diff docs v1 v2
0 rollback docs v1 --message undone
0 diff docs v1
0 tag delete docs v1
1 tag delete docs v1
0 branch delete docs side
1 branch delete docs main
0 gc docs --keep-commits 1
0 log docs
0 jobs list
0 jobs show 1
1 jobs show 77
0 purge docs n/1 never-there
0 ls docs
1 get docs n/1
1 get docs n/1 --at c6
0 kb update docs --description changed
1 kb update docs --chunking sideways
0 kb delete vectors
1 kb show vectors
0 key list
1 key create nobody --role read
0 status
END

# What may differ: times, durations, sizes, and where the data lies.
scrub() {
  sed -E -e 's/"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z"/"TIME"/g' \
    -e 's/"([a-z]+_us|uptime_seconds|disk_bytes|disk_free_bytes|commits|commit_groups|(vector|word|field)_bytes|eta_seconds)":[0-9.a-z]+/"\1":0/g' \
    -e 's/"data_dir":"[^"]*"/"data_dir":"DIR"/' -e 's/"(started_at|finished_at)":null/"\1":"TIME"/g'
}

run_script() { # NAME GLOBAL_OPTION VALUE
  local name=$1 want line got number=0
  shift
  while read -r want line; do
    number=$((number + 1))
    read -ra words <<<"$line"
    got=0
    "$ragctl" "$@" --json "${words[@]}" >out 2>err </dev/null || got=$?
    ((got == want)) || fail "$name: exit status $got instead of $want: $line"
    ((got == 0)) || [[ -s err ]] || fail "$name: a failure without a message: $line"
    printf '%s %s\n' "$number" "$line"
    scrub <out
    # messages for people too; FAISS from 1.8 on says on its own, where it runs, what it throws
    sed -e '/^Error in .*faiss/d' -e 's/^/! /' err
    # every answer is JSON, line by line
    [[ ! -s out ]] || jq -e . out >/dev/null 2>&1 || fail "$name: no JSON: $line"
  done <script
}

start served
run_script http --url "$url" >http.txt
run_script local --data local >local.txt
diff -u http.txt local.txt >differences || fail "the doors differ:
$(head -n 40 differences)"
(($(wc -l <http.txt) > 100)) || fail 'the script did hardly anything'

# What the script did is what it should have: a few answers by value.
grep -q '"id":"with space&.txt"' http.txt || grep -q 'with space&.txt' http.txt || fail 'a name with a blank was lost'
grep -q 'left out files/image.bin: it is not UTF-8 text' http.txt || fail 'a binary file was taken or left out silently'
grep -q 'left out files/empty.md: it has no text' http.txt || fail 'an empty file was left out silently'
! grep -q 'hidden' <(grep -v '^[0-9]' http.txt) || fail 'a hidden file was put'
grep -q '"title":"Ünï — a title"' http.txt || fail 'the heading did not become the title'
grep -q '"metadata":{"lang":"en"}' http.txt || fail 'the merge patch did not do what it says'

# One text, both ways, for people.
try 0 "$ragctl" --url "$url" search docs bananas yellow -k 1
says '^ 1 .* with space&.txt '
# In-process work is there for a daemon that comes later, and the other way round.
stop TERM
try 0 "$ragctl" --data served put docs stream.ndjson -m 'without a server'
start served
try 0 "$ragctl" --url "$url" log docs --oneline -n 1
says 'without a server$'
# A whole history goes from one to the other as a file, and damage to it is refused.
try 0 "$ragctl" --url "$url" kb export docs docs.ragd
try 0 "$ragctl" --data local kb import docs.ragd --name copied
try 0 "$ragctl" --url "$url" log docs --json
mv out log.http
try 0 "$ragctl" --data local log copied --json
cmp -s out log.http || fail 'the history of an imported knowledge base differs'
try 0 "$ragctl" --url "$url" search docs bananas --exact --json
sed -E 's/"took_us":[0-9]+//' out >hits.http
try 0 "$ragctl" --data local search copied bananas --exact --json
cmp -s <(sed -E 's/"took_us":[0-9]+//' out) hits.http || fail 'the answers of an imported knowledge base differ'
size=$(stat -c %s docs.ragd)
head -c $((size - 1)) docs.ragd >cut.ragd
try 1 "$ragctl" --data local kb import cut.ragd --name broken
try 1 "$ragctl" --data local kb show broken
try 1 "$ragctl" --url "$url" kb import cut.ragd --name broken
try 1 "$ragctl" --url "$url" kb show broken
try 1 "$ragctl" --url "$url" kb export nothing nothing.ragd
[[ ! -e nothing.ragd && ! -e nothing.ragd.partial ]] || fail 'a failed export left a file'
# Standard input, and output that cannot be written.
printf '{"id":"stdin","text":"from a pipe"}\n' | "$ragctl" --url "$url" put docs - >out 2>err || fail 'put -'
try 0 "$ragctl" --url "$url" get docs stdin --text
same "$(cat out)" 'from a pipe'
if [[ -c /dev/full ]]; then
  got=0
  "$ragctl" --url "$url" log docs >/dev/full 2>err || got=$?
  same "$got" 1 'a full disk under the output'
fi
"$ragctl" --url "$url" log docs | head -n 1 >out || fail 'a reader that has seen enough is no failure'
