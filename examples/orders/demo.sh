#!/usr/bin/env bash
# demo.sh: a thousand orders go through a durable workflow, an executor is
# killed in the middle, and every order is charged exactly once.
#
# Runs on a throw-away cluster, with fsync and everything else that makes
# PostgreSQL durable left on. Exits non-zero when the books do not balance.
set -euo pipefail

if [[ ${1:-} != --inside ]]; then
    cd "$(dirname "$0")/../.."
    exec test/tools/with-cluster --durable --no-extension \
        -c 'restart_after_crash = on' \
        -c 'romancy.executors = 2' \
        -- examples/orders/demo.sh --inside
fi

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here"
export PGAPPNAME=demo PGCLIENTENCODING=UTF8 PGOPTIONS='-c search_path=shop -c client_min_messages=warning'

bold='' plain=''
if [[ -t 1 ]]; then bold=$'\e[1m' plain=$'\e[0m'; fi
step=0
headline() { step=$((step + 1)); printf '\n%s%d. %s%s\n\n' "$bold" "$step" "$*" "$plain"; }
sql() { psql -X -q -v ON_ERROR_STOP=1 -P pager=off -P footer=off "$@"; }
value() { sql -At -c "$1"; }
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

headline 'A shop: tables, 48 articles, activities and a workflow in PL/pgSQL'
sql -c 'create extension romancy'
sql -o /dev/null -f schema.sql -f workflow.sql
sql <<'SQL'
create temp table delivery (sku text, title text, delivered int);
\copy delivery from 'stock.csv' csv header
insert into stock select sku, title, delivered, delivered from delivery;
SQL
sql -c "select (select count(*) from stock) as articles, (select sum(on_hand) from stock) as pieces_in_stock"

headline '1,000 orders come in: the rows and their workflows, in one statement'
sql <<'SQL'
create temp table incoming (like orders);
\copy incoming from 'orders.csv' csv header
with placed as (
    insert into orders select * from incoming returning order_id)
select count(romancy.start_workflow('fulfil_order',
                                    jsonb_build_object('order_id', order_id),
                                    idempotency_key => order_id)) as workflows_started
from placed;
SQL

headline 'Half the payments are in: kill -9 of an executor'
# A session of our own, to notice when the server has thrown everyone out
psql -X -q -c 'select pg_sleep(600)' >/dev/null 2>&1 &
canary=$!
there() { [[ -n $(value "select 1 from pg_stat_activity where query = 'select pg_sleep(600)'") ]]; }
wait_until 30 'a second session' there

half_way() { [[ $(value 'select count(*) >= 500 from payments') == t ]]; }
wait_until 120 '500 payments' half_way
victim=$(value "select pid from romancy.workers
                where kind = 'executor' order by (instance_id is not null) desc, pid limit 1")
[[ -n $victim ]] || die 'there is no executor to kill'
sql -c "select status, count(*) from romancy.instances group by status order by status"
kill -9 "$victim"
killed=$(date +%s%N)
echo "Executor $victim is dead. PostgreSQL ends all sessions and recovers from its log."
wait "$canary" || true
answers() { psql -X -q -At -c 'select 1' >/dev/null 2>&1; }
wait_until 120 'the server accepts connections again' answers
echo "The server answers again after $((($(date +%s%N) - killed) / 1000000)) ms. The workers go on with each workflow."

headline 'The shop does not know whether its orders got through, and sends them again'
sql <<'SQL'
select count(distinct romancy.start_workflow('fulfil_order',
                                             jsonb_build_object('order_id', order_id),
                                             idempotency_key => order_id)) as answers,
       (select count(*) from romancy.instances) as workflows
from orders;
SQL
echo 'The idempotency key gives each order the workflow that it has.'

headline 'Waiting for all of them (call romancy.await_result, no polling)'
sql -o /dev/null <<'SQL'
select format('call romancy.await_result(%L, timeout => ''120s'')', instance_id)
from romancy.instances where finished_at is null order by created_at
\gexec
SQL
sql -c "select status, count(*) as workflows from romancy.instances group by status order by status"

headline 'What happened'
sql <<'SQL'
create temp table steps as
select h.event_type, h.data,
       coalesce((h.data->'retry'->>'total_attempts')::int, 1) - 1 as retries
from romancy.instances i, romancy.get_history(i.instance_id) h;

select count(*) filter (where event_type = 'ActivityCompleted') as activities,
       count(*) filter (where event_type = 'TimerExpired') as sleeps,
       count(*) filter (where retries > 0) as "activities retried",
       sum(retries) as "failed attempts"
from steps;

\echo 'The errors that were retried:'
select e->>'sqlstate' as sqlstate, e->>'message' as message, count(*)
from steps, jsonb_array_elements(data->'retry'->'errors') e
where retries > 0
group by 1, 2 order by 3 desc;

select round(extract(epoch from last - first)::numeric, 2) as seconds,
       round(n / extract(epoch from last - first)) as "orders per second",
       round((select count(*) from steps where event_type in ('ActivityCompleted', 'TimerExpired'))
             / extract(epoch from last - first)) as "steps per second"
from (select min(started_at) as first, max(finished_at) as last, count(*) as n
      from romancy.instances) t;
SQL
echo 'Most of that time is parcels being packed (sleep), payments (3 ms each) and the crash.'

headline 'The history of the order that needed most attempts to be paid'
worst=$(value "select i.instance_id
               from romancy.instances i, romancy.get_history(i.instance_id) h
               where h.data ? 'retry'
               order by (h.data->'retry'->>'total_attempts')::int desc, i.created_at, i.idempotency_key
               limit 1")
sql -v worst="$worst" <<'SQL'
select o.order_id as "order", o.customer, o.city, o.quantity || ' x ' || s.title as article, i.output
from romancy.instances i
join orders o on o.order_id = i.idempotency_key
join stock s using (sku)
where i.instance_id = :'worst';

select seq, to_char(created_at, 'HH24:MI:SS.MS') as at, event_type, activity_id,
       data->'retry'->>'total_attempts' as attempts, data->'result' as result
from romancy.get_history(:'worst')
order by seq;
SQL

headline 'The proof: every step of every order, exactly once'
sql -f verify.sql

printf '%s\n' "${bold}Every order was reserved, charged, shipped and announced exactly once.${plain}"
