#!/usr/bin/env bash
# demo.sh: two hundred orders, half SQL and half calls to services that are slow, fail, limit, hang and lose their answers; one of
# two receivers of events is down for a while; the process that sends the requests is killed in the middle. Each order is charged once.
#
# Runs on a throw-away cluster, with fsync and everything else that makes PostgreSQL durable left on. Exits non-zero when
# the books of the services do not agree with the shop's. With --inside it uses the server of PGHOST, which has to be alone.
set -euo pipefail

if [[ ${1:-} != --inside ]]; then
    cd "$(dirname "$0")/../.."
    exec test/tools/with-cluster --durable --no-extension -c 'restart_after_crash = on' -- examples/payments/demo.sh --inside
fi

cd "$(dirname "${BASH_SOURCE[0]}")"
export PGAPPNAME=demo PGCLIENTENCODING=UTF8 PGOPTIONS='-c search_path=shop -c client_min_messages=warning'

bold='' plain=''
if [[ -t 1 ]]; then bold=$'\e[1m' plain=$'\e[0m'; fi
step=0
headline() { step=$((step + 1)); printf '\n%s%d. %s%s\n\n' "$bold" "$step" "$*" "$plain"; }
sql() { psql -X -q -v ON_ERROR_STOP=1 -P pager=off -P footer=off "$@"; }
admin() { sql "$@"; }
shop() { sql -U shop "$@"; }
value() { shop -At -c "$1"; }
die() { echo "demo: $*" >&2; exit 1; }

# wait_until SECONDS 'what' COMMAND...: until the command succeeds
wait_until() {
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        ((SECONDS < deadline)) || die "still not so after the time allowed: $what"
        sleep 0.05
    done
}
is_true() { [[ $(value "$1" 2>/dev/null) == t ]]; }

work=$(mktemp -d)
API_KEY=$(head -c 24 /dev/urandom | base64)
SIGNING_KEY=whsec_$(head -c 32 /dev/urandom | base64)
export API_KEY SIGNING_KEY
/usr/bin/python3 services.py "$work" 2>"$work/errors" &
services=$!
trap 'kill $services 2>/dev/null || true; cat "$work/errors" >&2; rm -rf "$work"' EXIT
wait_until 60 'the services listen' test -f "$work/ports"
read -r port accounting_port <"$work/ports"

headline 'A shop, and what it may reach: nothing, until the owner of the extension says so'
admin -c 'create extension romancy' -c 'create role shop login' \
    -c "do \$\$ begin execute format('grant create on database %I to shop', current_database()); end \$\$"
admin -o /dev/null -c "select romancy.grant_usage('shop')"
if shop -o /dev/null -c "select romancy.define_destination('warehouse', 'http://127.0.0.1:$port/events')"; then
    die 'the shop reaches a service that it was not allowed to reach'
fi
for p in "$port" "$accounting_port"; do
    admin -o /dev/null -c "select romancy.allow_http('shop', 'http://127.0.0.1:$p/*', private => true)"
done
# The values go in through files: no process list shows them
printf '%s' "$API_KEY" >"$work/api_key"
printf '%s' "$SIGNING_KEY" >"$work/signing_key"
shop -o /dev/null <<SQL
\\set api_key \`cat "$work/api_key"\`
\\set signing_key \`cat "$work/signing_key"\`
select romancy.set_secret('payments', :'api_key', '127.0.0.1'), romancy.set_secret('events', :'signing_key', '127.0.0.1');
SQL
shop -o /dev/null -f schema.sql -v services="http://127.0.0.1:$port" -v accounting="http://127.0.0.1:$accounting_port" -f workflow.sql
shop -c 'select role, url_pattern, private from romancy.http_rules order by url_pattern'

# A session of our own, to notice when the server has thrown everyone out
admin -c 'select pg_sleep(600)' >/dev/null 2>&1 &
canary=$!
there() { [[ $(admin -At -c "select exists (select from pg_stat_activity where query = 'select pg_sleep(600)')") == t ]]; }
wait_until 60 'a second session' there

headline '200 orders come in: the rows and their workflows, in one statement. Accounting is down.'
shop <<'SQL'
with placed as (insert into orders select * from incoming() returning order_id)
select count(romancy.start_workflow('fulfil_order', jsonb_build_object('order_id', order_id), idempotency_key => order_id)) as workflows_started
from placed;
SQL
wait_until 120 'accounting is found to be down' is_true "select breaker = 'open' from romancy.destinations where name = 'accounting'"
shop -c "select name, breaker, failures, error from romancy.destinations where name <> '' order by name"

headline 'Fifty orders are paid: kill -9 of the process that sends all requests'
paid() { [[ $(grep -c '"what": "charge"' "$work/books") -ge 50 ]]; }
wait_until 120 '50 charges' paid
worker() { victim=$(admin -At -c "select pid from romancy.workers where kind = 'http'") && [[ -n $victim ]]; }
wait_until 60 'a worker that sends requests' worker
shop -c "select activity, status, count(*) from romancy.activity_tasks group by 1, 2 order by 1, 2"
kill -9 "$victim"
echo "Process $victim is dead. PostgreSQL ends all sessions and recovers from its log."
wait "$canary" || true
answers() { is_true 'select true'; }
wait_until 120 'the server accepts connections again' answers
echo 'The server answers again. The workers go on with each workflow; what was under way is sent again, with the same key.'

headline 'Accounting comes back'
kill -USR1 "$services"
shop -c "select name, events_pending from (
             select destination as name, count(*) filter (where status = 'pending') as events_pending from romancy.outbox group by 1) t order by name"

headline 'Waiting for all workflows, and for all events'
wait_until 300 'all workflows have ended' is_true "select count(*) = 200 and count(*) filter (where finished_at is null) = 0 from romancy.instances"
wait_until 300 'all events have arrived' is_true "select bool_and(status = 'published') from romancy.outbox"
shop -c "select workflow, status, error->>'code' as error, count(*) from romancy.instances group by 1, 2, 3 order by 2, 3 nulls first"

headline 'What happened: attempts that failed, and what the services noted'
shop <<SQL
create table books (line jsonb);
\\copy books from '$work/books' with (format csv, quote e'\\x01', delimiter e'\\x02')
SQL
shop <<'SQL'
select regexp_replace(e->>'message', '^\S+ http\S+: ', '') as "error of an attempt", count(*)
from romancy.instances i, romancy.get_history(i.instance_id) h, jsonb_array_elements(h.data->'retry'->'errors') e
group by 1 order by 2 desc, 1;

select line->>'service' as service, line->>'what' as what, count(*)
from books group by 1, 2 order by 1, 2;
SQL

headline 'An order to a city that no carrier knows: what was done is undone'
shop -c "select h.seq, h.event_type, h.activity_id, h.data->'retry'->>'total_attempts' as attempts, h.data->'error'->>'message' as error
         from romancy.instances i, romancy.get_history(i.instance_id) h where i.idempotency_key = 'O-13' order by h.seq"

headline 'The proof: the books of the services against those of the shop'
shop -f verify.sql

printf '%s\n' "${bold}Every order was charged and sent once, or undone, and each receiver heard of it in order.${plain}"
