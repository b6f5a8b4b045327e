/*-------------------------------------------------------------------------
 *
 * state.h
 *		The states of an event on its way to one destination.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_OUTBOX_STATE_H
#define ROM_OUTBOX_STATE_H

/*
 * Stored in t_outbox.state: numbers never change their meaning, and the conditions of its indexes name them. PENDING and TAKEN are live, all
 * others are final. The table in README.md says which function makes which transition.
 */
typedef enum RomOutboxState
{
	ROM_OUTBOX_PENDING = 0,
	ROM_OUTBOX_TAKEN = 1,		/* under a lease that ends at due_at */
	ROM_OUTBOX_PUBLISHED = 2,
	ROM_OUTBOX_INVALID = 3,		/* refused by the receiver for good */
	ROM_OUTBOX_EXPIRED = 4,		/* romancy.outbox_max_age */
	ROM_OUTBOX_DEAD = 5			/* no attempt is left */
} RomOutboxState;

/* The first final state. */
#define ROM_OUTBOX_FINAL 2

/* The same in SQL text. */
#define ROM_SQL_OUTBOX_PENDING "0"
#define ROM_SQL_OUTBOX_TAKEN "1"
#define ROM_SQL_OUTBOX_FINAL "2"	/* live states are less */
#define ROM_SQL_OUTBOX_PUBLISHED "2"
#define ROM_SQL_OUTBOX_INVALID "3"
#define ROM_SQL_OUTBOX_EXPIRED "4"
#define ROM_SQL_OUTBOX_DEAD "5"

/* Events that one call may take, or acknowledge. */
#define ROM_OUTBOX_CALL_MAX 1000

/* The id of the destination that is always there. */
#define ROM_DESTINATION_ALWAYS 0

#endif							/* ROM_OUTBOX_STATE_H */
