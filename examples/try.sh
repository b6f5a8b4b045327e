#!/usr/bin/env bash
# try.sh: builds romancy and gives you a throw-away server to play with, until
# you press Ctrl-C. Everything in it is gone afterwards.
set -euo pipefail

if [[ ${1:-} != --inside ]]; then
    cd "$(dirname "$0")/.."
    exec test/tools/with-cluster -- examples/try.sh --inside
fi

cat <<TEXT

A server with romancy is running. In another terminal:

    psql -h $PGHOST -U $PGUSER $PGDATABASE

Its log: $PGLOG. Ctrl-C here ends it and removes it.
TEXT
trap 'exit 0' INT TERM HUP
while :; do sleep 3600 & wait $!; done
