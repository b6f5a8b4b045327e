-- Times of schedules: a file of gaps and overlaps with the right answers, each written by hand before it was run; and the
-- errors, which name field and position. It would catch zero or two runs on the night on which the clock changes.
SET timezone = 'UTC';
CREATE FUNCTION at(cron text, zone text, after timestamp, n int) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT to_char(t AT TIME ZONE zone, 'YYYY-MM-DD HH24:MI:SS') || ' = ' || to_char(t AT TIME ZONE 'UTC', 'MM-DD HH24:MI:SS')
	FROM romancy.schedule_times(cron, zone, after AT TIME ZONE zone, n) t $$;

-- Berlin, 02:00 to 03:00: a time in the gap runs at its end; two in it run once; what follows elapsed time leaves it out
SELECT at('30 2 * * *', 'Europe/Berlin', '2026-03-28 12:00', 2);
SELECT at('15,45 2 * * *', 'Europe/Berlin', '2026-03-28 12:00', 2);
SELECT at('0 2,3 * * *', 'Europe/Berlin', '2026-03-28 12:00', 2);
SELECT at('*/30 * * * *', 'Europe/Berlin', '2026-03-29 01:15', 3);
SELECT at('30 * * * *', 'Europe/Berlin', '2026-03-29 01:15', 3);
SELECT at('30 */2 * * *', 'Europe/Berlin', '2026-03-29 00:45', 2);
-- 03:00 to 02:00: a time in the overlap runs once, the first time; what follows elapsed time runs twice
SELECT at('30 2 * * *', 'Europe/Berlin', '2026-10-24 12:00', 2);
SELECT at('30 2,3 * * *', 'Europe/Berlin', '2026-10-24 12:00', 3);
SELECT at('*/30 2 * * *', 'Europe/Berlin', '2026-10-24 12:00', 5);
SELECT at('30 * * * *', 'Europe/Berlin', '2026-10-25 01:15', 4);
-- asked in the second part of the overlap
SELECT to_char(t, 'MM-DD HH24:MI') FROM romancy.schedule_times('45 2 * * *', 'Europe/Berlin', '2026-10-25 01:10+00', 1) t;
-- seconds, in a gap and in an overlap
SELECT at('10,20 30 2 * * *', 'Europe/Berlin', '2026-03-28 12:00', 2);
SELECT at('*/20 59 2 * * *', 'Europe/Berlin', '2026-10-24 12:00', 4);
-- New York
SELECT at('0 2 * * *', 'America/New_York', '2026-03-07 12:00', 2);
SELECT at('0 1 * * *', 'America/New_York', '2026-10-31 12:00', 2);
-- Lord Howe moves by half an hour: 02:00 to 02:30, and 02:00 to 01:30
SELECT at('15 2 * * *', 'Australia/Lord_Howe', '2026-10-03 12:00', 2);
SELECT at('45 1 * * *', 'Australia/Lord_Howe', '2026-04-04 12:00', 2);
SELECT at('*/15 1 * * *', 'Australia/Lord_Howe', '2026-04-05 01:25', 5);
-- Samoa left out 30 December 2011, all of it
SELECT at('30 9 * * *', 'Pacific/Apia', '2011-12-29 12:00', 2);
SELECT at('0 */8 * * *', 'Pacific/Apia', '2011-12-29 12:00', 3);
-- Troll moves by two hours: 01:00 to 03:00, and 03:00 to 01:00
SELECT at('30 1 * * *', 'Antarctica/Troll', '2026-03-28 12:00', 2);
SELECT at('0 2 * * *', 'Antarctica/Troll', '2026-10-24 12:00', 2);
-- Casablanca has summer time all year, but for Ramadan: back on 15 February, ahead on 22 March 2026
SELECT at('30 2 * * *', 'Africa/Casablanca', '2026-02-14 12:00', 2);
SELECT at('30 2 * * *', 'Africa/Casablanca', '2026-03-21 12:00', 2);
-- Santiago changes at midnight: 6 September 2026 has no 00:00, the Saturday before Easter's Sunday a second 23:00
SELECT at('@daily', 'America/Santiago', '2026-09-05 12:00', 2);
SELECT at('30 23 * * *', 'America/Santiago', '2026-04-04 12:00', 2);
-- Kathmandu moved by a quarter of an hour, at the beginning of 1986
SELECT at('10 0 1 * *', 'Asia/Kathmandu', '1985-12-31 12:00', 2);
SELECT at('0 12 * * *', 'Asia/Kathmandu', '2026-01-01 12:00', 1);
-- St John's, when it changed at 00:01: to 01:01, and to 23:01 of the day before
SELECT at('30 0 * * *', 'America/St_Johns', '2008-03-08 12:00', 2);
SELECT at('30 23 1 * *', 'America/St_Johns', '2008-11-01 12:00', 2);
-- Dublin's summer time is its standard time, which the server's zone data says the other way round
SELECT at('30 1 * * *', 'Europe/Dublin', '2026-03-28 12:00', 2);
SELECT at('30 1 * * *', 'Europe/Dublin', '2026-10-24 12:00', 2);

-- days
SELECT at('0 0 L * *', 'UTC', '2027-12-31', 4);
SELECT at('0 0 L-3 2 *', 'UTC', '2027-01-01', 2);
SELECT at('0 0 LW * *', 'UTC', '2026-01-01', 5);
SELECT at('0 0 1W * *', 'UTC', '2026-07-15', 3);
SELECT at('0 0 31W * *', 'UTC', '2026-01-01', 3);
SELECT at('0 0 * * 5L', 'UTC', '2026-01-01', 3);
SELECT at('0 0 * * MON#2', 'UTC', '2026-01-01', 2);
SELECT at('0 0 * * 1#-1', 'UTC', '2026-01-01', 2);
SELECT at('0 0 * * 1#5', 'UTC', '2026-01-01', 2);
SELECT at('0 0 13 * 5', 'UTC', '2026-11-05', 4);
SELECT at('0 0 &13 * 5', 'UTC', '2026-11-05', 2);
SELECT at('0 0 */10 * 1', 'UTC', '2026-11-05', 2);
SELECT at('0 0 29 2 *', 'UTC', '2096-03-01', 2);
SELECT at('0 0 * * FRI-7', 'UTC', '2026-11-26', 3);
SELECT at('@yearly|0 12 4 7 *', 'UTC', '2026-01-01', 3);
SELECT at('@every 36h', 'UTC', '2026-01-01', 2);
SELECT at('@every 90s', 'UTC', '2026-01-01', 2);
-- H: the same for the same name, in its range
SELECT count(*), bool_and(extract(minute FROM t) BETWEEN 10 AND 19 AND extract(hour FROM t) < 6)
	FROM romancy.schedule_times('H(10-19) H(0-5) * * *', n => 30) t;
SELECT count(DISTINCT t::time) FROM romancy.schedule_times('H H * * *', n => 30) t;
SELECT count(*) FROM romancy.schedule_times('H/20 4 * * *', 'UTC', '2026-01-01', 6) t WHERE t < '2026-01-02';
SELECT count(*) FROM romancy.schedule_times('* * * * *', n => 0);

SELECT e, romancy.describe_schedule(e) FROM unnest(ARRAY['30 2 * * *', '0 6,18 * * 1-5', '*/15 9-17 * * MON-FRI', '* * * * *', '5 * * * *', '0 0 LW,L-3 * *',
	'0 0 &13 * 5', '0 0 1,15 * FRI', '*/10 * * * * *', '30 0 12 * * *', '@yearly', '@weekly', '@every 90s|5 4 * * *', '7 */8 15W 1-3 *', '0 9 * * SAT,SUN', '0 0 1 * 1#2,3#-2,5L', '@every 1.5s', '@every 1s', '@every 1h30m', '@every 1h1s', '@every 26h5m30.25s', '@every 61.000001s', '@every 120h']) e;

-- errors
CREATE FUNCTION wrong(cron text, zone text = 'UTC') RETURNS text LANGUAGE plpgsql AS $$
DECLARE hint text;
BEGIN
	PERFORM romancy.schedule_times(cron, zone);
	RETURN 'none';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
	RETURN sqlstate || ' ' || sqlerrm || coalesce(' / ' || nullif(hint, ''), '');
END $$;
SELECT wrong(e) FROM unnest(ARRAY['', '0 0 1 2', '0 0 1 2 3 4 5', '60 * * * *', '* 24 * * *', '* * 0 * *', '* * 32 * *', '* * * 13 *', '* * * * 8', '0 0 30 2 *', '0 0 31 2,4,6 *', '0 0 * * 1#6',
	'0 0 L-31 * *', '*/0 * * * *', '* */x * * *', '0 5-1 * * *', '0 0 * * FRI-SUN', '0 0 * * MON1', '0 0 ? * *', '0 0 1,,5 * *', '0 0 1, * *', '0 0 1- * *', '0 0 * FEBR *', 'H(5-1) * * * *', 'H(5 * * * *',
	'0 0 5L * *', '0 0 * * L', '0 0 15W-3 * *', '99999999999 * * * *', '@reboot', '@every', '@every soon', '@every 1 month', '@every 10ms', '@every -5s', '0 0 * * * |', '0 0 * * * | 0 0 * * 9']) e;
SELECT wrong('0 0 * * *', z) FROM unnest(ARRAY['CEST', 'EST', 'CET', 'Europe/Berlim', 'UTC+3', '<+03>-3', 'Foo-3', 'Europe/Berlin3', '', 'right/Europe/Berlin', 'Etc/GMT+13']) z;
SELECT z, wrong('0 0 * * *', z) FROM unnest(ARRAY['europe/berlin', 'UTC', 'GMT', 'Etc/GMT-3', 'EST5EDT', 'Zulu']) z;
SELECT wrong(repeat('1|', 600));
SELECT wrong(repeat('* * * * *|', 16) || '* * * * *');
SELECT romancy.schedule_times('* * * * *', after => 'infinity');
SELECT romancy.schedule_times('* * * * *', n => -1);
SELECT romancy.schedule_times('* * * * *', n => 1000000000);
SELECT count(*) FROM romancy.schedule_times('* * * * * *', n => 100000);
DROP FUNCTION at, wrong;
