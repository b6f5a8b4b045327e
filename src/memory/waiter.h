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
#include "utils/uuid.h"

/* Key of a thing of this database. kind: a letter that no other kind of thing has; its room names it (ROM_..._KEY). */
extern uint64 rom_waiter_key(char kind, const void *id, Size len);

/* Registers this backend for key; an exit of the process takes it out again. */
extern void rom_waiter_register(uint64 key);
extern void rom_waiter_unregister(void);

/*
 * The same for a session that may find nothing where others would: each wake-up of key wakes it as well, and is used up by others alone.
 */
extern void rom_waiter_register_beside(uint64 key);

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

/* Bytes that a wake-up can tell. */
#define ROM_TOLD_MAX 1000

/* The news that a wake-up brings along, so that the session that waits need not look. */
typedef struct RomTold
{
	pg_uuid_t	id;				/* of what: keys are hashes */
	int			what;			/* of the caller's choice */
	int			len;			/* of data */
	char		data[ROM_TOLD_MAX];
} RomTold;

/* rom_waiter_notify() that brings news. */
extern void rom_waiter_tell(uint64 key, const RomTold *told);

/* rom_waiter_told copies what the last wake-up has told about id; false: nothing, the caller has to look. */
extern bool rom_waiter_told(const pg_uuid_t *id, RomTold *told);

/* Wakes all sessions that wait for anything, in any database: for rare events without a key. Does not raise. */
extern void rom_waiter_notify_all(void);

/* Registers the part of shared memory; called once from _PG_init. */
extern void rom_waiter_init(void);

#endif							/* ROM_WAITER_H */
