#!/usr/bin/env bash
# run.sh: the system of hands-on projects, rebuilt. Needs a database with romancy preloaded
# (PGHOST, PGPORT, PGDATABASE as for psql) and python3-psycopg. For instance:
#
#   test/tools/with-cluster examples/hands_on/run.sh
#
# A project of 62 tasks in batches of five, some in order and some in parallel, done by
# three programs; some tasks fail at first, and one program dies in the middle. Prints what
# the whole job cost, and what 5 seconds of waiting cost.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
sql() { psql -XqAt -v ON_ERROR_STOP=1 "$@"; }
work=$(mktemp -d)
pids=()
trap '[[ ${#pids[@]} = 0 ]] || kill "${pids[@]}" $(cat "$work"/pid*) 2>/dev/null || true; rm -rf "$work"' EXIT

sql -f "$here/schema.sql" >/dev/null
sql >/dev/null <<'SQL'
insert into project (id) values (1);
insert into project_task select 1, n, case when (n - 1) / 5 % 3 = 1 and n % 5 <> 1 then n - 1 end,
	20 + n % 4 * 10, case when n % 17 = 0 then 1 else 0 end from generate_series(1, 62) n;
SQL

# a program that dies is started again
keep() {
	local n=0
	until /usr/bin/python3 "$here/worker.py" "" "w$1" "$work/$1.$n" 2>>"$work/err" & echo $! >"$work/pid$1"; wait $!; do
		n=$((n + 1))
	done
}
for w in 1 2 3; do
	DIE=1 keep $w 2>/dev/null &
	pids+=($!)
done

# The database's counters, read from another database, so that reading them does not count. A session counts
# when it is idle for a second, or ends.
database=$(sql -c 'select current_database()')
observe() { sql -d template1 -v db="$database" "$@"; }
transactions() { sleep 1.2; observe <<<"select xact_commit + xact_rollback from pg_stat_database where datname = :'db'"; }
before=$(transactions)
begun=$(date +%s%N)
id=$(sql -c "select romancy.start_workflow('run_project', '{\"project\": 1, \"total\": 62}')")
client=1
since=null
while :; do
	since=$(sql -c "call romancy.await_progress('$id', '$since', '60s')")
	client=$((client + 1))
	echo "progress: $since"
	[[ $since != *'"finished": true'* ]] || break
done
ended=$(date +%s%N)
after=$(transactions)
result=$(sql -c "select state || ', ' || jsonb_array_length(results) || ' results' from project")

# Waiting: the three programs are blocked in poll_activities. romancy's own workers look after things until
# they leave, after romancy.worker_idle_timeout without work; then there is nothing.
until [[ $(observe <<<"select count(*) from pg_stat_activity where datname = :'db' and backend_type like 'romancy%'") = 0 ]]; do
	sleep 0.5
done
idle=$(transactions)
sleep 5
idle=$(($(transactions) - idle))

kill -TERM $(cat "$work"/pid*)
wait "${pids[@]}" || true
pids=()
workers=0
for f in "$work"/[0-9].*; do
	workers=$((workers + $(cat "$f")))
done
echo "project: $result, in $(((ended - begun) / 1000000)) ms"
echo "statements: $((client + workers)) (programs $workers, client $client)"
echo "transactions: $((after - before))"
echo "transactions in 5 seconds of waiting: $idle"
