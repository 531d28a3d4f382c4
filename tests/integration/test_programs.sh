# Goal: the command lines are what their help says, and wrong usage is found before anything is touched.
# Method: every command that `ragctl --help` lists is asked for its own help; then one mistake of each kind, and what the
# exit status and the message must be.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# --- help
try 0 "$ragctl" --help
mapfile -t commands < <(sed -n '/^Commands/,/^Options/s/^  \([a-z]\+\( [a-z]\+\)\?\) .*/\1/p' out)
((${#commands[@]} >= 35)) || fail "only ${#commands[@]} commands are listed"
for command in "${commands[@]}"; do
  # "kb" of a group and "put" alone: the second word is a command's only when it is one of the table's
  read -ra words <<<"$command"
  try 0 "$ragctl" "${words[@]}" --help
  says "^usage: ragctl .* ${words[0]}"
  says '--json'
  try 0 "$ragctl" help "${words[@]}"
done
for group in kb branch tag jobs key; do
  try 0 "$ragctl" "$group" --help
  says "ragctl \[options\] $group COMMAND"
done
try 0 "$ragctl" --version
says '^ragctl [0-9]+\.[0-9]+\.[0-9]+$'
try 0 "$ragd" --version
says '^ragd [0-9]+\.[0-9]+\.[0-9]+$'
try 0 "$ragd" --help
says '^  --listen ADDRESS'
silent_about 'mutant'
try 0 "$ragd" serve --help

# --- ragctl: wrong usage is 2, with the nearest name
try 2 "$ragctl"
try 2 "$ragctl" serach docs x
complains "no command 'serach'; did you mean 'search'"
try 2 "$ragctl" kb craete x
complains "no command 'kb craete'; did you mean 'kb create'"
try 2 "$ragctl" kb
complains 'needs a second word'
try 2 "$ragctl" log docs --onelin
complains "did you mean '--oneline'"
try 2 "$ragctl" log
complains "'log' needs more"
try 2 "$ragctl" kb show a b
complains "'b'"
try 2 "$ragctl" log docs -n many
complains 'no number'
try 2 "$ragctl" search docs x --at
complains 'needs a value: REF'
try 2 "$ragctl" --url http://127.0.0.1:1 --data d status
complains 'not both'
try 2 "$ragctl" gc docs --data d
complains 'keep-commits'
[[ ! -e d ]] || fail 'wrong usage made a data directory'

# --- ragctl: a failure is 1, with what to do
try 1 "$ragctl" --url http://127.0.0.1:1 status
complains 'no server answers at http://127.0.0.1:1; start one'
try 1 "$ragctl" --data d kb list
complains 'there is no data directory d'
try 1 "$ragctl" --url ftp://x status
complains 'no URL'

# --- ragd: command line and configuration
try 2 "$ragd"
try 2 "$ragd" sevre
complains "did you mean 'serve'"
try 2 "$ragd" serve
complains '--data DIR'
try 2 "$ragd" serve --data d --lisen 127.0.0.1:0
complains "did you mean '--listen'"
try 2 "$ragd" serve --data elsewhere --listen nonsense
complains "nonsense"
try 2 "$ragd" serve --data d --cache-bytes 12parsecs
complains 'KiB, MiB or GiB'
try 2 "$ragd" serve --data d --connections-max 0
complains 'out of bounds: 1 to'
[[ ! -e d ]] || fail 'a wrong command line made a store'

config_error() { # LINES PATTERN
  printf '%b' "$1" >ragd.conf
  try 2 "$ragd" serve --config ragd.conf
  complains "$2"
}
config_error '# fine\ndata = d\n\nnetwork_thread = 2\n' "ragd.conf:4: there is no setting 'network_thread'; did you mean 'network_threads'"
config_error 'data = d\nworker_threads = lots\n' "ragd.conf:2: worker_threads: 'lots' is no number"
config_error 'data = d\ndata = e\n' 'ragd.conf:2: data was already set on line 1'
config_error 'data = d\nlisten\n' "ragd.conf:2: 'listen' is no setting; write name = value"
config_error 'access_log = yes\n' "ragd.conf:1: access_log: 'yes' is neither on nor off"
config_error 'data = d\nlisten = \0000\n' 'ragd.conf:2: listen: .* holds a NUL character'
config_error 'allow_test_mutants = on\n' 'there is no setting'
try 2 "$ragd" serve --config missing.conf --data d
complains 'missing.conf'

# --- settings of the file are used, and the command line wins
cat >ragd.conf <<'END'
# where
data = conf.d   # a comment after a value
listen = 127.0.0.1:1
cache_bytes = 16MiB
log_format = json
END
: >ready
"$ragd" serve --config ragd.conf --listen 127.0.0.1:0 >ready 2>ragd.log &
daemons+=($!)
for ((i = 0; i < 200; i++)); do
  if grep -q listening ready; then break; fi
  sleep 0.05
done
grep -q 'data in conf.d$' ready || fail "the file's data was not used: $(cat ready ragd.log)"
head -n 1 ragd.log | grep -q '^{' || fail "the file's log_format was not used: $(head -n 1 ragd.log)"
