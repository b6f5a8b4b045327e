/*-------------------------------------------------------------------------
 *
 * bgw.h
 *		Code that all worker processes share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_BGW_H
#define ROM_BGW_H

#include "postmaster/bgworker.h"

#include "memory/roster.h"

/* The parameters of a worker; passed in bgw_extra. */
typedef struct RomWorkerParams
{
	RomWorkerKind kind;
	int			place;			/* in the roster */
	uint32		generation;		/* of the place */
	Oid			dbid;
	Oid			owner;			/* executor */
	int			part;			/* scheduler */
	uint32		reloads;		/* the roster's, when the launcher asked for
								 * the process */
} RomWorkerParams;

/* A unit of work: runs in a transaction of its own. */
typedef void (*RomUnit) (void *arg);

/* The name of a kind of worker. */
extern const char *rom_bgw_kind(RomWorkerKind kind);

/* Launcher: registers a dynamic worker. NULL: max_worker_processes is used up. */
extern BackgroundWorkerHandle *rom_bgw_register(RomWorkerParams *params);

/*
 * Worker: takes its place, installs the signal handlers, connects, pins the session's settings. Does not
 * return when the place is another one's by now.
 */
extern void rom_bgw_attach(RomWorkerParams *params);

/*
 * Pins the settings that would stop a worker, before it connects: what is set for the role or the database does
 * not override them. owners: it becomes a session of an owner's, whose other settings hold.
 */
extern void rom_bgw_pin_session(bool owners);

/*
 * Runs a unit and commits; an error is rolled back, logged (unless quiet), and false returned. Only
 * an order to end the process gets through. In a database it holds a lock against DROP EXTENSION,
 * and is skipped, with success, when the extension was dropped: so the caller has to set arg to
 * "nothing found" beforehand.
 */
extern bool rom_bgw_unit(RomUnit unit, void *arg, bool quiet);

/* Is a unit running in this process? */
extern bool rom_bgw_in_unit(void);

/* Sleeps on the latch, at most ms (-1: for ever), and takes in interrupts and a reload. */
extern void rom_bgw_wait(long ms);

/* Takes in interrupts and a reload. */
extern void rom_bgw_poll(void);

/* Our place; what it says of us. */
extern RomWorker *rom_bgw_me(void);
extern void rom_bgw_set_state(RomWorkerState state);

/* Are we asked to leave? */
extern bool rom_bgw_asked_to_leave(void);

/* All went well: forgets the failures of this kind of worker here. */
extern void rom_bgw_healthy(void);

/*
 * Looks whether work may be done in this database: extension there, of the
 * library's version, and adopted. Looks again only when something was
 * announced, or the extension's oid has changed. False: the reason is in the
 * database's record and has been logged, and the worker has to leave.
 */
extern bool rom_bgw_check_database(void);

/* Milliseconds to sleep until t, rounded up, at least 0; not more than some seconds, for the clock may be set; -1 for DT_NOEND. */
extern long rom_bgw_milliseconds(TimestampTz t);

#endif							/* ROM_BGW_H */
