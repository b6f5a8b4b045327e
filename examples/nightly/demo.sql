-- psql -f workflow.sql -f demo.sql, in a database with the extension. The nights pass in a moment: drain() moves
-- its own clock from one to the next, inside a transaction that is rolled back.
\set QUIET on
\pset footer off
begin;
-- at half past two in Berlin, also in the nights in which the clock changes; when a run takes too long, the next one waits for it
select romancy.schedule('nightly', '30 2 * * *', 'nightly.night', timezone => 'Europe/Berlin', overlap => 'queue', pause_on_failure => 3) \g /dev/null
select romancy.describe_schedule(cron) as "when" from romancy.schedules where name = 'nightly';

-- the first night: the run starts, and waits; the figures come an hour late
call romancy.drain(max_turns => 1, advance_time => true) \g /dev/null
select (scheduled at time zone 'Europe/Berlin')::date - 1 as first, scheduled as night from romancy.schedule_runs('nightly') \gset
select status as "figures are late" from romancy.schedule_runs('nightly');
select nightly.loaded(:'first', '{10, 20, 12.50}') \g /dev/null
call romancy.drain() \g /dev/null
select status as "and come", i.output->'total' as total from romancy.schedule_runs('nightly') join romancy.instances i using (instance_id, status);

-- the second night: no figures at all. It fails after four hours; the schedule goes on
call romancy.drain(advance_time => true) \g /dev/null
select status as "no figures", error->>'sqlstate' as error from romancy.schedule_runs('nightly', 1);
select paused, runs, completed, failed, next_run is not null as goes_on from romancy.schedules where name = 'nightly';

-- the three nights before the schedule existed: one report after the other, none twice
select romancy.backfill_schedule('nightly', (:'first'::date - 2)::timestamptz, to_time => (:'night'::timestamptz at time zone 'Europe/Berlin' - interval '1 day') at time zone 'Europe/Berlin' + interval '1 us', overlap => 'queue_all') as nights;
do $$
declare
	day date;
	n bigint;
begin
	for i in 1..3 loop
		call romancy.drain(turns => n);
		select (r.scheduled at time zone 'Europe/Berlin')::date - 1 into strict day
			from romancy.schedule_runs('nightly', 100) r where r.status = 'waiting_for_message';
		perform nightly.loaded(day, array[i, i]);
		call romancy.drain(turns => n);
	end loop;
end $$;
select total, count(*) over () as reports from nightly.report order by day;
rollback;
