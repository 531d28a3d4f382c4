# Goal: a knowledge base that changes is kept whole: each edition is found as it was.
# Method: six dated snapshots of a real book's sources become six commits by `ragctl sync`. What an edition has and does
# not have is taken from the files themselves (diff, grep), and log, diff, get and search must agree with it.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

book=${RAGD_SHARED:-$repository/../shared}/data/kb_rust_book
[[ -d $book ]] || skip "the snapshots of the Rust book are not at $book; set RAGD_SHARED"
mapfile -t editions < <(cd "$book" && printf '%s\n' 20*)
same "${#editions[@]}" 6 'editions'

start data
export RAGD_URL=$url
try 0 "$ragctl" kb create book

# --- six commits, whose counts are those of diff(1)
before=
for edition in "${editions[@]}"; do
  try 0 "$ragctl" sync book "$book/$edition" -m "edition of $edition"
  if [[ -z $before ]]; then
    added=$(find "$book/$edition" -type f | wc -l) changed=0 removed=0
  else
    diff -rq "$book/$before" "$book/$edition" >files.diff || true
    changed=$(grep -c ' differ$' files.diff) || true
    added=$(grep -c "^Only in $book/$edition" files.diff) || true
    removed=$(grep -c "^Only in $book/$before" files.diff) || true
  fi
  says "^c[0-9]+ on main: $added added, $changed changed, $removed removed"
  try 0 "$ragctl" tag create book "e$edition"
  before=$edition
done
try 0 "$ragctl" log book --oneline
same "$(grep -c ' put ' out)" 6
same "$(head -n 1 out | sed 's/.*edition of //')" "${editions[5]}"
# once more: nothing changed, so nothing is committed
try 0 "$ragctl" sync book "$book/${editions[5]}"
says '^nothing changed'

# --- every document of every edition, byte for byte
for edition in "${editions[@]}"; do
  try 0 "$ragctl" ls book --at "e$edition"
  awk 'NR > 1 { print $1 }' out | sort >listed
  (cd "$book/$edition" && find . -type f | sed 's|^\./||' | sort) >there
  cmp -s listed there || fail "the documents of $edition differ from its files: $(diff listed there | head -n 5)"
  for file in src/title-page.md src/SUMMARY.md src/ch20-02-multithreaded.md src/ch17-01-futures-and-syntax.md; do
    if [[ -f $book/$edition/$file ]]; then
      try 0 "$ragctl" get book "$file" --at "e$edition" --text
      cmp -s out "$book/$edition/$file" || fail "$file of $edition is not what was put"
    else
      try 1 "$ragctl" get book "$file" --at "e$edition"
      complains 'not_found'
    fi
  done
done

# --- diff: the same files as diff(1), and the same lines
diff -rq "$book/${editions[3]}" "$book/${editions[4]}" >files.diff || true
{
  sed -n "s|^Only in $book/${editions[3]}/\(.*\): \(.*\)|D \1/\2|p; s|^Only in $book/${editions[4]}/\(.*\): \(.*\)|A \1/\2|p" files.diff
  sed -n "s|^Files $book/${editions[3]}/\(.*\) and .* differ|M \1|p" files.diff
} | sort >want
try 0 "$ragctl" diff book "e${editions[3]}" "e${editions[4]}"
grep -E '^[AMD] ' out | sort >got
cmp -s want got || fail "diff differs from diff(1): $(diff want got | head -n 5)"
grep -q '^A src/ch17-01-futures-and-syntax.md$' got || fail 'the chapters on async are not new in 2025'
try 0 "$ragctl" diff book "e${editions[3]}" "e${editions[4]}" --text
says '^-.*Rust 1\.67\.1 \(released 2023-02-09\)'
says '^\+.*Rust 1\.85\.0 \(released 2025-02-17\)'

# --- search at each edition: every hit's text is in that edition's file, at the place that it names
query='The Rust Programming Language by Steve Klabnik and Carol Nichols, this version of the text assumes you use Rust'
for edition in "${editions[@]}"; do
  for words in "$query" 'async await futures and streams' 'ownership and borrowing' 'green threads'; do
    try 0 "$ragctl" search book "$words" --at "e$edition" -k 10 --json
    jq -r '.hits | length' out >hits
    same "$(cat hits)" 10 "hits for '$words' at $edition"
    jq -r '.hits[] | [.document_id, .start, .end] | @tsv' out >places
    for ((i = 0; i < 10; i++)); do
      IFS=$'\t' read -r id from to < <(sed -n "$((i + 1))p" places)
      [[ -f $book/$edition/$id ]] || fail "'$words' at $edition found $id, which that edition does not have"
      head -c "$to" "$book/$edition/$id" | tail -c $((to - from)) >span
      jq -j ".hits[$i].text" out >text
      cmp -s span text || fail "the text of hit $i for '$words' at $edition is not bytes $from to $to of $id"
    done
  done
done

# --- what an edition said: the version of Rust that it was written for, and the chapters that it has
declare -A rust=([2019-06-01]='Rust 1.31.0' [2021-01-01]='Rust 1.48' [2022-06-01]='Rust 1.59' [2024-01-01]='Rust 1.67.1'
  [2025-03-01]='Rust 1.85.0' [2026-07-13]='Rust 1.97.0')
for edition in "${editions[@]}"; do
  try 0 "$ragctl" search book "$query" --at "e$edition" -k 3 --json
  jq -r '.hits[] | select(.document_id == "src/title-page.md") | .text' out >title
  grep -q "${rust[$edition]}" title || fail "the title page of $edition was not found, or is not about ${rust[$edition]}"
  for other in "${editions[@]}"; do
    [[ $other == "$edition" ]] || ! grep -q "${rust[$other]} " title || fail "$edition answers with the text of $other"
  done
  try 0 "$ragctl" search book 'futures and the async syntax, await' --at "e$edition" -k 5 --json
  found=$(jq -r '[.hits[] | select(.document_id | test("ch17-0[1-6].*(futures|async|streams|syntax)"))] | length' out)
  if [[ $edition < 2025 ]]; then same "$found" 0 "chapters on async at $edition"
  else ((found >= 3)) || fail "only $found of 5 hits at $edition are the chapters on async"; fi
done

# --- rollback to the first: the same documents and, bit for bit, the same answers
answers() { # REF
  local words
  for words in "$query" 'async await futures' 'ownership' 'error handling with Result'; do
    "$ragctl" search book "$words" --at "$1" -k 20 --exact --json | jq -c '[.hits[] | [.document_id, .chunk, .start, .end, .score, .text]]'
  done
}
answers "e${editions[0]}" >first
try 0 "$ragctl" rollback book "e${editions[0]}" -m 'as it began'
answers main >again
cmp -s first again || fail 'after the rollback the answers are not those of the first edition'
try 0 "$ragctl" diff book "e${editions[0]}" main --stat
says ' 0 added, 0 changed, 0 removed'
try 0 "$ragctl" log book --oneline -n 2
says 'rollback .*as it began$'

# --- a restart changes nothing
stop TERM
start data
export RAGD_URL=$url
answers main >again
cmp -s first again || fail 'after a restart the answers differ'
