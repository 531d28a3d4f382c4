# What the integration tests share: a temporary folder, daemons that are always stopped, checks that say where they
# failed. Sourced; $work is the test's own folder and the current one.
set -euo pipefail

: "${RAGD_BIN:?the folder of ragd and ragctl}"
tests_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$tests_dir/../.." && pwd)
ragd=$RAGD_BIN/ragd
ragctl=$RAGD_BIN/ragctl
export NO_COLOR=1 RAGD_AUTHOR=tester TZ=UTC
unset RAGD_URL RAGD_DATA RAGD_API_KEY_FILE RAGD_TEST_MUTANT

work=$(mktemp -d "${TMPDIR:-/tmp}/ragd-test.XXXXXX")
daemons=()
leave() {
  local pid
  for pid in "${daemons[@]}"; do
    kill -9 "$pid" 2>/dev/null || continue
    wait "$pid" 2>/dev/null || true # without it the shell says "Killed"
  done
  rm -rf "$work"
}
trap leave EXIT
cd "$work"

fail() {
  local depth=0 # the nearest line of the test itself
  while [[ ${BASH_SOURCE[depth]} == */common.sh && -n ${BASH_SOURCE[depth + 1]:-} ]]; do depth=$((depth + 1)); done
  printf 'FAILED at %s:%s: %s\n' "$(basename "${BASH_SOURCE[depth]}")" "${BASH_LINENO[depth - 1]}" "$*" >&2
  [[ ! -s $work/out ]] || { echo '--- stdout'; head -c 4000 "$work/out"; } >&2
  [[ ! -s $work/err ]] || { echo '--- stderr'; head -c 4000 "$work/err"; } >&2
  exit 1
}

# try STATUS COMMAND...: it must end with that status; its output is in the files out and err.
try() {
  local want=$1 got=0
  shift
  "$@" >out 2>err </dev/null || got=$?
  ((got == want)) || fail "exit status $got instead of $want: $*"
}
says() { grep -Eq -- "$1" out || fail "stdout has no line like: $1"; }
silent_about() { ! grep -Eq -- "$1" out || fail "stdout has a line like: $1"; }
complains() { grep -Eq -- "$1" err || fail "stderr has no line like: $1"; }
same() { [[ $1 == "$2" ]] || fail "'$1' is not '$2'${3:+: $3}"; }

# start DIR [OPTION...]: a daemon on a free port; its pid is in $pid, its URL in $url.
start() {
  local dir=$1
  shift
  : >ready # the shell makes the file in the background process: what is read before must not be the last one's
  "$ragd" serve --data "$dir" --listen 127.0.0.1:0 "$@" >ready 2>>ragd.log &
  pid=$!
  daemons+=("$pid")
  local i
  for ((i = 0; i < 600; i++)); do
    if grep -q listening ready; then
      url=$(grep -o 'http://[^,]*' ready)
      return
    fi
    kill -0 "$pid" 2>/dev/null || fail "ragd did not start: $(tail -n 5 ragd.log)"
    sleep 0.05
  done
  fail 'ragd was not ready within 30 s'
}

# stop [SIGNAL]: ends the daemon of the last start; its exit status is in $stopped.
stop() {
  kill -"${1:-TERM}" "$pid"
  stopped=0
  wait "$pid" 2>/dev/null || stopped=$?
}

skip() {
  printf 'skipped: %s\n' "$*"
  exit 77
}
