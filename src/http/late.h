/*-------------------------------------------------------------------------
 *
 * late.h
 *		Outcomes of requests that could not be recorded: when each is tried again.
 *
 * Local to the HTTP worker: landing.c has outcomes of tasks, delivery.c of events.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_HTTP_LATE_H
#define ROM_HTTP_LATE_H

#include "datatype/timestamp.h"
#include "lib/ilist.h"

#include "workers/bgw.h"

/* A request, in one of the lists that it goes through; the first part of its entry. */
typedef struct RomLate
{
	dlist_node	node;
	int			tries;			/* to record it that failed, */
	int			faults;			/* by errors that do not pass */
	bool		passing;		/* the last one's does */
	TimestampTz try_at;			/* after one that failed */
} RomLate;

/* Those that are late, and what is done with them. */
typedef struct RomLateList
{
	bool		(*record) (RomLate *entry); /* in a transaction of its own;
											 * false: to be tried again */
	void		(*hold) (RomLate *entry);	/* it is late for some seconds: it
											 * is to keep no place from others */
	void		(*discard) (RomLate *entry);
	dlist_head	entries;
} RomLateList;

/* Walk through a list; NULL at its end. An entry may leave the list when the next has been asked for. */
extern RomLate *rom_late_first(dlist_head *list);
extern RomLate *rom_late_next(dlist_head *list, RomLate *entry);

/* Takes the first of a list out of it; NULL: it is empty. */
extern RomLate *rom_late_pop(dlist_head *list);

/* Runs a unit, which gets the entry, to record it alone. False: it failed, which is noted. */
extern bool rom_late_unit(RomUnit unit, RomLate *entry);

/* Discards those of a list that are done; keeps the others for another try. True: any was. */
extern bool rom_late_settle(RomLateList *late, dlist_head *list, bool (*is_done) (RomLate *entry));

/* Tries those again whose time has come, a few in a pass. Returns when to do so next (DT_NOEND: there are none); sets *any where one was done. */
extern TimestampTz rom_late_again(RomLateList *late, bool *any);

#endif							/* ROM_HTTP_LATE_H */
