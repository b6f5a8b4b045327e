/*-------------------------------------------------------------------------
 *
 * crossing.h
 *		Detects that a message was sent and a receiver began to wait for it at the same time, in
 *		transactions that did not see each other.
 *
 * Both sides read the tables first: the sender looks for receivers, the receiver for messages. If
 * their transactions overlap, neither finds the other. So both count, in shared memory and after
 * their commit, and compare the other side's count with what it was before they looked. A side that
 * finds the count changed looks again: a receiver by another turn, a sender by passing the key to a
 * sweep. Keys with the same hash value share a count, so a second look may find nothing.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_CROSSING_H
#define ROM_CROSSING_H

#include "utils/uuid.h"

/* Longest key, in bytes. */
#define ROM_CROSSING_KEY_MAX 140

/* A sender calls this before it looks for receivers of key: if one began to wait meanwhile, sweep is asked for the key after the sender's commit. */
extern void rom_crossing_send(const char *key, int sweep);

/* A waiter, before it looks what was sent. */
extern uint64 rom_crossing_look(const char *key);

/* It found nothing and waits: after its commit, if something was sent since seen, the instance is ready. */
extern void rom_crossing_wait(const char *key, uint64 seen, const pg_uuid_t *id,
							  Oid owner, int32 priority);

/* After the commit, senders that looked before it look again (a subscription). now: at once, without a commit. */
extern void rom_crossing_enter(const char *key, bool now);

/*
 * A transaction is about to change what a key stands for in the tables (NULL: any key), and others
 * remember that in their own memory. From now on up to its end they read the tables, and after it what
 * they remembered before counts no more.
 */
extern void rom_crossing_change(const char *key);

/*
 * Rows of key that are read after this call may be cached while the call returns the same number;
 * 0: they must be read each time (a change is under way, or there is no shared memory).
 */
extern uint64 rom_crossing_version(const char *key);

/* Registers the end of changes; called once from _PG_init. */
extern void rom_crossing_init(void);

/* Asks sweep for key at once: a receiver that was woken for it took nothing. For the commit hook as well. */
extern void rom_crossing_ask(const char *key, int sweep);
extern void rom_crossing_ask_later(const char *key, int sweep);

/* Has the sweep look at everything. */
extern void rom_crossing_ask_all(int sweep);

/* For a sweep: takes a key of this database that it was asked for; false when there is none. all: some were lost, look at everything. */
extern bool rom_crossing_take(int sweep, char *key, bool *all);

#endif							/* ROM_CROSSING_H */
