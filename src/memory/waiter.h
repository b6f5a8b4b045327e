/*-------------------------------------------------------------------------
 *
 * waiter.h
 *		Client sessions that wait, without a snapshot, for something to happen.
 *
 * Order: register, look, sleep. A key is a 64-bit hash of what is waited for,
 * so a wake-up may be spurious and the caller looks again.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_WAITER_H
#define ROM_WAITER_H

#include "datatype/timestamp.h"

/* Key of a thing of this database. kind: a letter that no other kind of thing has; its room names it (ROM_..._KEY). */
extern uint64 rom_waiter_key(char kind, const void *id, Size len);

/* Registers this backend for key; an exit of the process takes it out again. */
extern void rom_waiter_register(uint64 key);
extern void rom_waiter_unregister(void);

/*
 * Sleeps until the key is woken or until (DT_NOEND: for ever). Must be called
 * outside a transaction's snapshot. False when the time is over. Interruptible.
 * Without shared memory (not preloaded) it looks again after a second.
 */
extern bool rom_waiter_sleep(TimestampTz until);

/* Wakes the sessions that wait for key; called by the commit hook. Does not raise. */
extern void rom_waiter_notify(uint64 key);

/* The same for some of them at the most. One that was woken and leaves without having looked again hands it on. */
extern void rom_waiter_notify_some(uint64 key, int number);

/* Wakes all sessions that wait for anything, in any database: for rare events without a key. Does not raise. */
extern void rom_waiter_notify_all(void);

/* Registers the part of shared memory; called once from _PG_init. */
extern void rom_waiter_init(void);

#endif							/* ROM_WAITER_H */
