#!/usr/bin/env bash
# Goal: from the command line, words, meaning, filters and facets find what they should, and say how.
# Method: ragctl in process over one folder and over a daemon, with a corpus whose answers are plain to see.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

cat >docs.ndjson <<'END_OF_DOCUMENTS'
{"id": "guide", "title": "Installing", "text": "Install the package manager first.\n\nThen run it.", "metadata": {"lang": "en", "year": 2020}}
{"id": "boats", "text": "One line.\nTwo lines.\nThree lines.\nFour lines.\nBoats and ships sail on the sea.", "metadata": {"lang": "en", "year": 2021, "tags": ["sea", "wind"]}}
{"id": "schiff", "text": "Die Schiffe fahren auf dem Meer.", "language": "de", "metadata": {"lang": "de", "year": 2021}}
END_OF_DOCUMENTS
english='{"must": [{"key": "lang", "match": {"value": "en"}}]}'

check() { # GLOBAL OPTIONS...: what every way to the service answers
  local ctl=("$ragctl" "$@")
  try 0 "${ctl[@]}" search docs ships --mode lexical
  says '^ 1  .*  boats'
  silent_about 'guide'
  silent_about '\*\*'
  says '^    One line\.$'
  try 0 "${ctl[@]}" search docs ship --mode lexical --highlight --plan
  says '^    Boats and \*\*ships\*\* sail on the sea\.$' # the excerpt begins where the match is
  silent_about 'One line'
  says '^plan: lexical'
  says '^  words .* 1 term of 1 clause; 1 of 1 postings scored$'
  try 0 "${ctl[@]}" search docs '"package manager"' --mode lexical
  says '^1 hit at c2'
  try 0 "${ctl[@]}" search docs boats --filter "$english" --plan
  says '^2 hits at c2'
  silent_about 'schiff'
  says '^plan: hybrid'
  says '^  filter .* 2 of 3 documents pass, 2 of 3 chunks'
  try 0 "${ctl[@]}" search docs boats --filter @english.json --json
  says '"document_id":"boats"'
  try 0 "${ctl[@]}" search docs boats --mmr 0.5 --per-document 1 --fusion weighted
  says '^3 hits'
  try 0 "${ctl[@]}" ls docs --filter "$english"
  says '^guide'
  silent_about 'schiff'
  try 0 "${ctl[@]}" facets docs lang year 'tags[]' nothing
  says '^FIELD +VALUE +DOCUMENTS +SHARE$'
  says '^lang +en +2 +66\.7%$'
  says '^ +de +1 +33\.3%$'
  says '\(numbers from 2020(\.0)? to 2021(\.0)?\)'
  says '^nothing +\(no values\)'
  says '^3 documents at c2'
  try 0 "${ctl[@]}" facets docs year --limit 1 --filter "$english"
  says '\(1 more value\)'
  says '^2 documents at c2'
  try 0 "${ctl[@]}" --json facets docs lang
  says '"values":\[\{"value":"en","count":2\},\{"value":"de","count":1\}\]'
  try 0 "${ctl[@]}" get docs schiff
  says '^language +de$'
}

printf '%s' "$english" >english.json
try 0 "$ragctl" --data data kb create docs --language en
try 0 "$ragctl" --data data put docs docs.ndjson
check --data data
start data
check --url "$url"

# Wrong usage is found before anything is asked for.
try 2 "$ragctl" --url http://127.0.0.1:1 search docs x --filter '[1]'
complains 'not a JSON object'
try 2 "$ragctl" --url http://127.0.0.1:1 search docs x --filter '{"must":'
complains '--filter: bad JSON'
try 1 "$ragctl" --url http://127.0.0.1:1 search docs x --filter @nowhere.json
complains 'nowhere.json'
try 2 "$ragctl" --url http://127.0.0.1:1 search docs x --mmr much
complains "--mmr: 'much' is no number"
try 2 "$ragctl" --url http://127.0.0.1:1 rm docs
complains 'Give ids, or --filter'
try 2 "$ragctl" --url http://127.0.0.1:1 rm docs a --filter "$english"
complains 'not both'
try 2 "$ragctl" --url http://127.0.0.1:1 facets docs
complains 'needs more'
# And the server's refusals are printed as they are.
try 1 "$ragctl" --url "$url" search docs x --mode best
complains "'best' is none of hybrid, vector, lexical"
try 1 "$ragctl" --url "$url" search docs x --filter '{"mst": []}'
complains "did you mean 'must'"
try 1 "$ragctl" --url "$url" rm docs --filter '{}'
complains 'would delete every document'

try 0 "$ragctl" --url "$url" rm docs --filter "$english" -m 'no English'
says '^c3 on main: 0 added, 0 changed, 2 removed'
try 0 "$ragctl" --url "$url" ls docs
says '^schiff'
silent_about 'boats'
try 0 "$ragctl" --url "$url" facets docs lang --at main~1
says '^3 documents at c2'
stop
same "$stopped" 0 'exit status of a drained server'
echo 'passed'
