/*-------------------------------------------------------------------------
 *
 * front.h
 *		How far the ready tasks of a queue have been used up, in shared memory.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_FRONT_H
#define ROM_FRONT_H

#include "datatype/timestamp.h"
#include "utils/uuid.h"

/* A task's place in the index t_task_ready, after its queue. */
typedef struct RomFrontKey
{
	int64		rank;			/* - priority */
	pg_uuid_t	id;
} RomFrontKey;

/* A scan of a queue's ready tasks, from rom_front_begin() to rom_front_end(). */
typedef struct RomFrontPass
{
	bool		known;			/* is there a place in shared memory for the
								 * queue? */
	bool		whole;			/* the scan has to begin at the queue's first
								 * task */
	bool		distrust;		/* if it finds nothing, it has to be repeated
								 * from the start */
	RomFrontKey from;			/* where else it begins, inclusive */
	TimestampTz begun;
	/* for front.c */
	int			slot;
	uint64		number;
} RomFrontPass;

/* Shared memory: how much, and filling it (shmem.c). */

/* Begins a scan of a queue (as stored in t_task) of this database. whole: from its first task in any case. */
extern void rom_front_begin(RomFrontPass *pass, const char *queue, bool whole);

/*
 * Ends it. reached: all index entries before it belong to rows that a
 * committed transaction has deleted or changed, or that never came to be; NULL: nothing is known.
 */
extern void rom_front_end(const RomFrontPass *pass, const char *queue, const RomFrontKey *reached);

/*
 * An index entry of a ready task was made at that place, by this transaction,
 * committed or not. To be called after the entry was made. Does not raise.
 */
extern void rom_front_lower(const char *queue, int32 priority, const pg_uuid_t *id);

/* The same for entries at places that are not known. */
extern void rom_front_reset(const char *queue);

/* Registers the part of shared memory; called once from _PG_init. */
extern void rom_front_init(void);

#endif							/* ROM_FRONT_H */
