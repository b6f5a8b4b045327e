/*-------------------------------------------------------------------------
 *
 * roster.h
 *		The processes that exist: the workers and the databases, in shared
 *		memory.
 *
 * All of it is guarded by one spinlock, the mutex, which guards the ready
 * ring too (ready.c): so a worker that goes to sleep or leaves, and a commit
 * that has work for it, see each other. Functions named *_locked want it held
 * and collect the latches to set, which is done after its release.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_ROSTER_H
#define ROM_ROSTER_H

#include "datatype/timestamp.h"
#include "storage/spin.h"

#include "memory/sweep.h"

/* Databases that are known at a time; the others wait for a place. */
#define ROM_MAX_DATABASES 256

/* Owners with waiting work that the launcher is known to know of. */
#define ROM_MAX_PENDING 64

typedef enum RomWorkerKind
{
	ROM_WORKER_SCHEDULER,
	ROM_WORKER_EXECUTOR,
	ROM_WORKER_HTTP				/* sends requests */
} RomWorkerKind;

#define ROM_WORKER_KINDS 3

/*
 * Places for HTTP workers, beyond romancy.max_workers: one waits for others' answers, which no turn is to wait for. A database
 * has one at the most.
 */
#define ROM_HTTP_PLACES 8

typedef enum RomWorkerState
{
	ROM_WORKER_FREE,			/* the place is free */
	ROM_WORKER_STARTING,		/* registered, not there yet */
	ROM_WORKER_IDLE,			/* sleeps on its latch; a commit may claim it */
	ROM_WORKER_RUNNING,
	ROM_WORKER_LEAVING			/* takes nothing more */
} RomWorkerState;

/* A place for a worker. */
typedef struct RomWorker
{
	RomWorkerKind kind;
	RomWorkerState state;
	bool		leave;			/* the launcher, or a DROP DATABASE, asks it
								 * to */
	bool		unknown;		/* has taken a member of which nothing is
								 * known: it may be long before it takes
								 * another one */
	bool		overtime;		/* it was asked to for another owner's sake,
								 * and is in a step that must not run twice:
								 * its place is given to another worker */
	uint32		generation;		/* of the place; a late start finds another
								 * one */
	Oid			dbid;
	Oid			owner;			/* executor: whose turns it runs */
	int			part;			/* scheduler: which share of the sweeps */
	bool		slow;			/* executor: in a step that is not known to be
								 * quick; rom_roster_is_slow() says more */
	TimestampTz slow_since;		/* of that, or since when it does what it took
								 * as quick; DT_NOEND: it has taken nothing */
	int			pid;			/* 0 while it starts */
	int			procno;
	TimestampTz started_at;
	TimestampTz serves_since;	/* it takes work; 0: it is not connected yet */
	TimestampTz since;			/* of state */
	int			expects;		/* executor: members that its transaction
								 * under way makes ready; until the launcher
								 * has looked at it (expect.c) */
	int64		turns;
} RomWorker;

/* Counters of sweep n in a database. Times are 0 before the first. */
typedef struct RomSweepStat
{
	TimestampTz last_run;
	TimestampTz next_due;
	int64		rows;			/* of the last run */
	int64		total_rows;
	int64		runs;
	int64		duration;		/* of the last run, microseconds */
	int64		skipped;		/* another one held the lock */
	int64		errors;
	TimestampTz last_failed;	/* the begin of the last run that failed */
} RomSweepStat;

/* Ends of workers in a row that went wrong, and when the next may start. */
typedef struct RomFailing
{
	int			count;
	TimestampTz failed_at;		/* the last one; workers that were there then
								 * and fail as well have the same cause */
	TimestampTz blocked_until;
} RomFailing;

/* Owners whose executors fail: more than that are not remembered. */
#define ROM_FAILING_OWNERS 64

/* Why no worker runs in a database. */
typedef enum RomRefusal
{
	ROM_REFUSAL_NONE,
	ROM_REFUSAL_NO_EXTENSION,
	ROM_REFUSAL_VERSION,		/* SQL objects of another version than the
								 * library */
	ROM_REFUSAL_COPY			/* a copy that was not adopted */
} RomRefusal;

/* The bounds of the places that work waits for. */
typedef enum RomShortage
{
	ROM_SHORT_OF_NOTHING,
	ROM_SHORT_OF_EXECUTORS,		/* romancy.executors */
	ROM_SHORT_OF_WORKERS,		/* romancy.max_workers */
	ROM_SHORT_OF_PROCESSES		/* max_worker_processes */
} RomShortage;

typedef struct RomDatabase
{
	Oid			dbid;			/* invalid: the place is free */
	RomRefusal	refusal;		/* until something is announced */
	bool		listed;			/* the launcher has looked at its row in
								 * pg_database */
	bool		served;			/* connectable, and not left out by
								 * romancy.databases */
	bool		dropped;		/* the launcher is to forget it */
	bool		scan;			/* to be scanned for work */
	bool		looked_ahead;	/* rows that were written by a clock that was
								 * ahead have been looked for */
	TimestampTz scan_after;		/* and not before, after scans that failed */
	int			scan_failures;	/* in a row */
	int			barred;			/* commands that keep workers out */
	uint32		epoch;			/* counts what calls for a new look at the
								 * extension */
	TimestampTz busy_at;		/* an executor ended a batch */
	TimestampTz scheduler_at;	/* a scheduler is needed by then */
	TimestampTz waiting_since;	/* the launcher saw that one is needed; 0:
								 * none */
	RomShortage short_of;		/* what work of this database waits for, by
								 * the last plan */
	TimestampTz short_logged;	/* when that was logged last; 0: never */
	TimestampTz horizon;		/* deadlines from here on are not in memory */
	bool		refill;			/* there is room for them */
	uint32		http;			/* what an HTTP worker is to look at:
								 * ROM_HTTP_... */
	TimestampTz http_at;		/* an HTTP worker is needed then, though there
								 * is no news */
	TimestampTz http_since;		/* the launcher saw that one is needed; 0:
								 * none */

	RomFailing	failing[ROM_WORKER_KINDS];	/* executors: see failing_owners */
	TimestampTz sweep_at[ROM_SWEEP_MAX];	/* asked for by notes */
	RomSweepStat stats[ROM_SWEEP_MAX];
} RomDatabase;

/* The news that an HTTP worker looks at. */
#define ROM_HTTP_CLAIM	0x01	/* there are requests to send */
#define ROM_HTTP_CANCEL	0x02	/* some under way may not be wanted any more */
#define ROM_HTTP_LIMITS	0x04	/* limits have changed: some may begin now */
#define ROM_HTTP_EVENTS	0x08	/* there are events to send */

/* Messages to the launcher; a bit stays set until the launcher has read it. */
#define ROM_TELL_START		0x01	/* work for an owner without an executor */
#define ROM_TELL_GROW		0x02	/* work while all executors of its owner
									 * are busy */
#define ROM_TELL_DATABASE	0x04	/* something about a database changed */
#define ROM_TELL_RING		0x08	/* the ring is half full */
#define ROM_TELL_WORKER		0x10	/* a worker arrived or left */
#define ROM_TELL_LIST		0x20	/* databases came or went: list them */
#define ROM_TELL_LOOK		0x40	/* look_at is nearer than its sleep's end */

typedef struct RomRoster
{
	slock_t		mutex;

	/* launcher; wakes_at is when it wakes by itself */
	uint32		reloads;		/* how often the launcher has read the
								 * configuration anew */
	int			launcher_pid;	/* 0: none */
	bool		launcher_seen;	/* one has signed on since the server's start */
	int			launcher_procno;
	TimestampTz launcher_started_at;
	TimestampTz launcher_since;
	TimestampTz launcher_wakes_at;
	uint32		told;
	TimestampTz look_at;		/* work waits for executors that do quick
								 * work: when the first of them has taken too
								 * long for that; the launcher plans then */
	bool		cannot_grow;	/* all places taken, or no process to be had */
	int			places;			/* for workers: romancy.max_workers, or fewer
								 * where max_worker_processes is less */
	bool		room_wanted;	/* the next executor that becomes idle tells
								 * the launcher that an owner has work for one
								 * more */

	/*
	 * owners without an executor that takes quick work, whom the launcher
	 * knows of, but cannot serve now
	 */
	int			npending;
	struct
	{
		Oid			dbid;
		Oid			owner;
	}			pending[ROM_MAX_PENDING];

	/*
	 * Executors run code of their owner's, who can end them, too: their
	 * failures hold up no other owner.
	 */
	struct
	{
		Oid			dbid;		/* invalid: the entry is free */
		Oid			owner;
		RomFailing	failing;
	}			failing_owners[ROM_FAILING_OWNERS];

	bool		databases_full; /* some did not find a place */
	int			ndatabases;		/* places used so far */
	RomDatabase databases[ROM_MAX_DATABASES];

	int			nworkers;		/* all below */
	int			nplaces;		/* romancy.max_workers at start; twice as many
								 * places, the second half for those in
								 * overtime */
	int			first_http;		/* and after them ROM_HTTP_PLACES */
	RomWorker	workers[FLEXIBLE_ARRAY_MEMBER];
} RomRoster;

/* Delay (us) between the first executor's start and that of the scheduler, which runs the sweeps. */
#define ROM_SCHEDULER_DELAY USECS_PER_SEC

/* Latches to be set after the release of the mutex. */
#define ROM_LATCHES_MAX 40
typedef struct RomLatches
{
	int			count;
	int			procnos[ROM_LATCHES_MAX];
} RomLatches;

/*
 * So long (us) an executor may take for what it took as quick: members that share a transaction, or one alone. After that
 * it counts as one in a slow step: a quick step may wait for a lock, or have more to do than before.
 */
#define ROM_QUICK_TAKES_MAX (250 * INT64CONST(1000))

/* NULL when there is no shared memory. */
extern RomRoster *rom_roster_get(void);

/* rom_roster_slow_at says from when on an executor counts as one in a slow step; DT_NOEND: not. The mutex is held, or it is a copy. */
extern TimestampTz rom_roster_slow_at(const RomWorker *worker);

extern void rom_roster_set_latches(const RomLatches *latches);

extern void rom_roster_tell_locked(RomRoster *roster, uint32 what,
								   RomLatches *latches);
extern RomDatabase *rom_roster_database_locked(RomRoster *roster, Oid dbid,
											   bool create);

/*
 * The failures of a kind of worker in a database; of executors, those of one owner. NULL: the database is not
 * known, or none have failed, unless create.
 */
extern RomFailing *rom_roster_failing_locked(RomRoster *roster, RomWorkerKind kind,
											 Oid dbid, Oid owner, bool create);

/* A worker runs as it should: forgets its failures and those of its like. */
extern void rom_roster_healthy(const RomWorker *worker);

/* When the next worker of this kind, database and owner may start. */
extern TimestampTz rom_roster_blocked_until(RomWorkerKind kind, Oid dbid, Oid owner);

/*
 * Something is ready for owner in dbid (slow: it is not known to be quick; unknown: nothing is known of it) at now: claims an idle
 * executor of theirs, or tells the launcher when that could help. False: no executor is idle, so the caller
 * need not ask for the next item.
 */
extern bool rom_roster_wake_locked(RomRoster *roster, Oid dbid, Oid owner,
								   bool slow, bool unknown, TimestampTz now, RomLatches *latches);

/*
 * An executor of the owner's begins a slow step: what the launcher could not do for them may be possible now, as one more is started when all are in
 * slow steps.
 */
extern void rom_roster_forget_pending_locked(RomRoster *roster, Oid dbid, Oid owner);

/* Claims the schedulers of a database, so that they look at its record. False: there is none. */
extern bool rom_roster_wake_scheduler_locked(RomRoster *roster, Oid dbid,
											 RomLatches *latches);

/* An HTTP worker of the database is to look at something, ROM_HTTP_...: wakes it, or tells the launcher that one is needed. */
extern void rom_roster_http(Oid dbid, uint32 what);

/* A database has to be scanned for work. announce: its extension came, or changed. */
extern void rom_roster_scan(Oid dbid, bool announce);

/* A database is to run a sweep by due. */
extern void rom_roster_sweep(Oid dbid, int sweep, TimestampTz due);

/* An executor has run a batch: counts its turns, and sees to it that there will be a scheduler. */
extern void rom_roster_busy(RomWorker *worker, int turns);

/* Tells the launcher. */
extern void rom_roster_tell(uint32 what);

/* The settings to be raised, with their values, for a hint; palloc'd. */
extern char *rom_roster_shortage_setting(RomShortage of);

/* Registers the part of shared memory; called once from _PG_init. */
extern void rom_roster_init(void);

#endif							/* ROM_ROSTER_H */
