"""Compares romancy.schedule_times() with cronsim, which follows Debian's cron.

oracle.py EXPRESSIONS [SEED]: so many random expressions, each in twelve zones with odd
rules, from a time near a change of the zone's clock. Libpq's environment says which server.

Where the two differ, a third way decides: walking minute by minute over the zone with Python's
zoneinfo, by the sentences of doc/schedules.md. Times that this walk does not confirm
are an error, and so is a difference that has none of the reasons in REASONS.

20,000 expressions (make oracle; 240,000 cases) take five minutes. With seed 20261129, 10,000 cases were refused by both, 5,443 were
different with a reason, in all of which the walk confirms romancy, and none was wrong.
"""
import collections
import datetime as dt
import random
import signal
import sys
import zoneinfo

import psycopg
from cronsim import CronSim, CronSimError

ZONES = ["Australia/Lord_Howe", "Pacific/Apia", "Africa/Casablanca", "Antarctica/Troll", "America/St_Johns", "Asia/Kathmandu",
	"Europe/Berlin", "America/New_York", "America/Santiago", "Asia/Tehran", "Europe/Dublin", "Pacific/Chatham"]
TIMES = 6
HORIZON = dt.timedelta(days=40)
PATIENCE = 0.5	# seconds of processor time that cronsim gets for a case
UTC = dt.timezone.utc
REASONS = {
	"start in overlap": "the start is in the second part of an overlap, which cronsim takes for the first part",
	"not after": "cronsim names a time a second time, or one before the time that it named last",
	"walk over change": "cronsim walks by whole hours over a change that is no whole hour, or out of the middle of one, and passes times by",
	"endless": "cronsim goes round in circles at a change, or walks through fifty years day by day",
	"shifted": "cronsim sets the zone's clock back to the start of a minute, an hour or a day that the clock shows twice or never",
}


def changes(zone):
	"""Instants between 1985 and 2037 at which the offset of zone changes, to the minute."""
	found = []
	at = dt.datetime(1985, 1, 1, tzinfo=UTC)
	step = dt.timedelta(days=5)
	while at.year < 2037:
		if (at + step).astimezone(zone).utcoffset() != at.astimezone(zone).utcoffset():
			low, high = at, at + step
			while high - low > dt.timedelta(minutes=1):
				middle = low + (high - low) // 2
				middle -= dt.timedelta(seconds=middle.second, microseconds=middle.microsecond)
				if middle == low:
					break
				if middle.astimezone(zone).utcoffset() == low.astimezone(zone).utcoffset():
					low = middle
				else:
					high = middle
			found.append(high)
		at += step
	return found


def term(r, low, high, names=None):
	def value():
		v = r.randint(low, high)
		if names and r.random() < 0.3:
			return names[(v - low) % len(names)]
		return str(v)
	kind = r.random()
	if kind < 0.55:
		return value()
	if kind < 0.75:
		# (cronsim reads 2-2/5 as 2/5)
		a, b = sorted(r.sample(range(low, high + 1), 2))
		text = f"{a}-{b}"
		return text + (f"/{r.randint(1, 7)}" if r.random() < 0.3 else "")
	if kind < 0.9:
		return f"*/{r.randint(1, max(2, high // 2))}"
	return f"{r.randint(low, high)}/{r.randint(1, 9)}"


def field(r, low, high, star, names=None, special=None):
	if r.random() < star:
		return "*"
	terms = []
	for _ in range(r.choice((1, 1, 1, 2, 3))):
		terms.append(special(r) if special and r.random() < 0.35 else term(r, low, high, names))
	return ",".join(terms)


def special_day(r):
	return r.choice(("L", "LW", "L"))


def special_weekday(r):
	return r.choice((f"{r.randint(0, 7)}L", f"{r.randint(0, 7)}#{r.randint(1, 5)}"))


def expression(r):
	minute = field(r, 0, 59, 0.2)
	hour = r.choice((field(r, 0, 23, 0.3), field(r, 0, 4, 0.1)))
	day = field(r, 1, 31, 0.55, special=special_day)
	month = field(r, 1, 12, 0.7, "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC".split())
	weekday = field(r, 0, 7, 0.55, "SUN MON TUE WED THU FRI SAT".split(), special_weekday)
	if r.random() < 0.02:
		minute = r.choice(("60", "*/0", "5-1", "1-", ",", "x"))
	if r.random() < 0.02:
		day = r.choice(("0", "32", "L1", "1W2", "31-1"))
	return " ".join((minute, hour, day, month, weekday))


class Endless(Exception):
	pass


def impatient(*_):
	raise Endless


def by_cronsim(text, start):
	"""Its times, and whether it came to an end; None for an expression that it refuses."""
	try:
		it = CronSim(text, start)
	except CronSimError:
		return None, True
	times = []
	end = start.astimezone(UTC) + HORIZON	# a sum in the zone is one of what its clock shows
	signal.setitimer(signal.ITIMER_VIRTUAL, PATIENCE)
	try:
		for t in it:
			times.append(t.astimezone(UTC))
			if len(times) == TIMES or times[-1] > end:
				break
		signal.setitimer(signal.ITIMER_VIRTUAL, 0)
	except Endless:
		return times, False
	return times, True


class Walk:
	"""The times of an expression, minute by minute."""

	def __init__(self, text, zone):
		self.sim = CronSim(text, dt.datetime(2000, 1, 1))
		parts = text.split()
		self.elapsed = parts[0].startswith("*") or parts[1].startswith("*")
		self.zone = zone

	def matches(self, local):
		s = self.sim
		return local.minute in s.minutes and local.hour in s.hours and local.month in s.months and s.match_day(local.date())

	def times(self, start):
		found = []
		minute = dt.timedelta(minutes=1)
		at = start.replace(second=0, microsecond=0)
		shown = max((at - k * minute).astimezone(self.zone).replace(tzinfo=None) for k in range(0, 1600))
		shown = max(shown, at.astimezone(self.zone).replace(tzinfo=None))
		while at < start + HORIZON and len(found) < TIMES:
			at += minute
			local = at.astimezone(self.zone).replace(tzinfo=None)
			if self.elapsed:
				if self.matches(local):
					found.append(at)
				continue
			come = False
			while shown < local:
				shown += minute
				come = come or self.matches(shown)
			if come:
				found.append(at)
		return found


def within(times, start):
	return [t for t in times if t <= start + HORIZON]


def reason(start, zone, ours, theirs, elapsed):
	local = start.astimezone(zone)
	if local.fold == 1 and not elapsed:
		return "start in overlap"
	last = start
	for t in theirs:
		if t <= last:
			return "not after"
		last = t
	offsets = {(start + dt.timedelta(hours=h)).astimezone(zone).utcoffset() for h in range(-48, 24 * 41)}
	if len(offsets) > 1 and elapsed:
		missing = set(ours) - set(theirs)
		return "walk over change" if missing else "shifted"
	return None


def main():
	count = int(sys.argv[1])
	signal.signal(signal.SIGVTALRM, impatient)
	r = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
	zones = [(name, zoneinfo.ZoneInfo(name)) for name in ZONES]
	all_changes = {name: changes(zone) for name, zone in zones}
	compared = refused = bad = 0
	reasons = collections.Counter()
	connection = psycopg.connect("dbname=postgres", autocommit=True)
	connection.execute("create function pg_temp.times(e text, z text, a timestamptz, n int) returns timestamptz[] language plpgsql as "
		"$$ begin return array(select romancy.schedule_times(e, z, a, n)); exception when sqlstate 'RM012' then return null; end $$")
	for done in range(0, count, 200):
		cases = []
		for _ in range(min(200, count - done)):
			text = expression(r)
			for name, zone in zones:
				change = r.choice(all_changes[name])
				cases.append((text, name, zone, change + dt.timedelta(minutes=r.choice((0, -1, 1, r.randint(-180, 180), r.randint(-2160, 600))))))
		rows = connection.execute("select pg_temp.times(u.e, u.z, u.a, %s) from unnest(%s::text[], %s::text[], %s::timestamptz[]) u (e, z, a)",
			(TIMES, [c[0] for c in cases], [c[1] for c in cases], [c[3] for c in cases])).fetchall()
		for (text, name, zone, start), (ours,) in zip(cases, rows):
			theirs, ended = by_cronsim(text, start.astimezone(zone))
			compared += 1
			if ours is None or theirs is None:
				if ours is None and not theirs:
					refused += 1
					continue
				bad += 1
				print(f"not ok: {text} in {name}: refused by {'romancy' if ours is None else 'cronsim'} alone")
				continue
			ours = within([t.astimezone(UTC) for t in ours], start)
			theirs = within(theirs, start)
			if ours == theirs and ended:
				continue
			walk = Walk(text, zone)
			why = "endless" if not ended else reason(start, zone, ours, theirs, walk.elapsed)
			right = within(walk.times(start), start)
			if right == ours and why is not None:
				reasons[why] += 1
				continue
			bad += 1
			print(f"not ok: {text} in {name} after {start}:\n  romancy {[str(t) for t in ours]}\n  cronsim {[str(t) for t in theirs]}\n"
				f"  walk    {[str(t) for t in right]}\n  reason  {why}")
			if bad > 20:
				sys.exit(1)
	for why, n in sorted(reasons.items()):
		print(f"{n} times: {REASONS[why]}")
	print(f"compared {compared}, refused by both {refused}, different with a reason {sum(reasons.values())}, wrong {bad}")
	sys.exit(bad > 0)


main()
