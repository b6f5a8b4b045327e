-- A nightly report. It waits for the day's figures, which come late now and then, and
-- gives up after four hours; a night that failed does not end the schedule.
create schema nightly;
create table nightly.sale (day date, amount numeric);
create table nightly.report (day date primary key, total numeric, made_at timestamptz default clock_timestamp());

-- the night is the one that the run is for, whenever it really runs
create function nightly.make_report(input jsonb) returns jsonb language plpgsql as $$
declare
	of date := (romancy.scheduled_at() at time zone 'Europe/Berlin')::date - 1;
	sum numeric;
begin
	select sum(amount) into strict sum from nightly.sale where day = of;
	insert into nightly.report (day, total) values (of, sum);
	return jsonb_build_object('day', of, 'total', sum);
end $$;

create function nightly.night(input jsonb) returns jsonb language plpgsql as $$
declare
	of date := (romancy.scheduled_at() at time zone 'Europe/Berlin')::date - 1;
begin
	perform romancy.receive('figures.' || of, timeout => '4 hours');	-- RM006 when they do not come
	return romancy.activity('nightly.make_report');
end $$;

-- the program that loads the figures tells the run that waits, or will wait, for them
create function nightly.loaded(of date, amounts numeric[]) returns void language plpgsql as $$
begin
	insert into nightly.sale select of, unnest(amounts);
	perform romancy.send_to(instance_id, 'figures.' || of, to_jsonb(of))
		from romancy.schedule_runs('nightly', 100) r
		where (r.scheduled at time zone 'Europe/Berlin')::date - 1 = of and r.instance_id is not null;
end $$;
