# Goal: what does not fit one request is still put, and pruned, whole.
# Method: a folder whose JSON is over 30 MiB though it is small (control characters take six bytes each there), synced,
# changed and synced again, over HTTP and in process; afterwards the branch holds exactly the folder's files.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

mkdir files
make_file() { # NAME WORD
  {
    printf 'a large document about %s\n' "$2"
    head -c 1048576 /dev/zero | tr '\0' '\1'
  } >"files/$1"
}
for word in oak elm ash fir yew lime pine; do make_file "$word.txt" "$word"; done

holds_the_folder() {
  try 0 "$ragctl" "$@" ls big
  same "$(awk 'NR > 1 { print $1 }' out | sort | paste -sd ' ')" "$(cd files && printf '%s\n' * | sort | paste -sd ' ')"
}

check_door() {
  try 0 "$ragctl" "$@" kb create big --chunking whole
  try 0 "$ragctl" "$@" sync big files -m 'seven trees'
  complains '7 documents are more than one request holds: several commits'
  try 0 "$ragctl" "$@" log big --oneline
  same "$(grep -c ' put .*seven trees$' out)" 2 'commits'
  holds_the_folder "$@"

  mv files/oak.txt kept
  make_file acer.txt acer
  try 0 "$ragctl" "$@" sync big files -m 'one felled, one planted'
  says ' 1 removed'
  holds_the_folder "$@"

  # Of the given sources alone: what has another source stays.
  printf '{"id":"other","text":"not a tree","source_uri":"elsewhere"}\n{"id":"twig","text":"a twig of the ash","source_uri":"ash.txt"}\n' \
    >more.ndjson
  try 0 "$ragctl" "$@" put big more.ndjson
  try 0 "$ragctl" "$@" put big files --prune source
  try 0 "$ragctl" "$@" get big other --text
  try 1 "$ragctl" "$@" get big twig
  complains 'not_found'
  rm files/acer.txt
  mv kept files/oak.txt
}

start data
check_door --url "$url"
check_door --data local
