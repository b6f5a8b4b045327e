/*-------------------------------------------------------------------------
 *
 * poller.h
 *		Programs that fetch from queues, in shared memory: their names, their
 *		queues, and when they polled last.
 *
 * A hint for people: view pollers, view queues and health(). When the table is full, the entry that
 * has not polled for longest is replaced.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_POLLER_H
#define ROM_POLLER_H

#include "datatype/timestamp.h"

#include "tasks/quota.h"

/* Names are cut to this many bytes, with their zero. */
#define ROM_POLLER_NAME 128

/* Of the names that a program passes over, this many are kept, hashed. */
#define ROM_POLLER_UNKNOWN 16

/* The names by which a program is found, cut, with zeros behind them. */
typedef struct RomPollerKey
{
	Oid			dbid;
	char		queue[ROM_POLLER_NAME]; /* as stored in t_task */
	char		worker_id[ROM_POLLER_NAME];
} RomPollerKey;

typedef struct RomPoller
{
	RomPollerKey key;
	Oid			role;
	int			pid;
	bool		waits;			/* in a call that waits for work */
	TimestampTz first_at;
	TimestampTz last_at;
	int64		polls;
	int64		tasks;			/* that it got */
	int			nunknown;		/* names that its last call passed over */
	int32		unknown[ROM_POLLER_UNKNOWN];	/* the first of them, by
												 * hashtext() */
} RomPoller;

/* This session asks for tasks as the claim says; waits: until there are some. */
extern void rom_poller_begin(const RomClaim *claim, bool waits);

/* That call has ended, with this many tasks. */
extern void rom_poller_end(const char *queue, const char *worker_id, int tasks);

/* Copies entry n (0 <= n < rom_poller_count()), if it is of this database. */
extern int	rom_poller_count(void);
extern bool rom_poller_get(int n, RomPoller *poller);

/*
 * Has a program polled queue since that instant, or does one wait for it now? Programs that pass over tasks of that name do not
 * count; NULL: all count.
 */
extern bool rom_poller_since(const char *queue, const char *name, TimestampTz since);

/* Registers the part of shared memory; called once from _PG_init. */
extern void rom_poller_init(void);

#endif							/* ROM_POLLER_H */
