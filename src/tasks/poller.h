/*-------------------------------------------------------------------------
 *
 * poller.h
 *		Programs that fetch from queues, in shared memory: who, what for, when last.
 *
 * A hint for people: view pollers, view queues and health(). What does not fit gives way, the one that
 * has not polled for longest first.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_POLLER_H
#define ROM_POLLER_H

#include "datatype/timestamp.h"

/* Names are cut to this many bytes, with their zero. */
#define ROM_POLLER_NAME 128

typedef struct RomPoller
{
	Oid			dbid;			/* InvalidOid: free */
	Oid			role;
	int			pid;
	bool		waits;			/* in a call that waits for work */
	TimestampTz first_at;
	TimestampTz last_at;
	int64		polls;
	int64		tasks;			/* that it got */
	char		queue[ROM_POLLER_NAME]; /* as stored in t_task */
	char		worker_id[ROM_POLLER_NAME];
} RomPoller;

/* This session, as worker_id, asks for tasks of queue; waits: until there are some. */
extern void rom_poller_begin(const char *queue, const char *worker_id, bool waits);

/* That call is over, with so many tasks. */
extern void rom_poller_end(const char *queue, const char *worker_id, int tasks);

/* Copies entry n (0 <= n < rom_poller_count()), if it is of this database. */
extern int	rom_poller_count(void);
extern bool rom_poller_get(int n, RomPoller *poller);

/* Has anybody polled queue since that instant, or waits for it now? */
extern bool rom_poller_since(const char *queue, TimestampTz since);

/* Registers the part of shared memory; called once from _PG_init. */
extern void rom_poller_init(void);

#endif							/* ROM_POLLER_H */
