/*-------------------------------------------------------------------------
 *
 * heap.h
 *		Bounded heaps of instances in shared memory: a queue per database and
 *		owner, and the deadlines. For ready.c, which has the lock.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_HEAP_H
#define ROM_HEAP_H

#include "memory/ready.h"

typedef struct RomHeaps RomHeaps;

/* A queue; the caller sets waiting_since. */
typedef struct RomHeapQueue
{
	Oid			dbid;			/* invalid: the place is free */
	Oid			owner;
	int			root;
	int			count;
	TimestampTz waiting_since;
} RomHeapQueue;

typedef enum RomHeapResult
{
	ROM_HEAP_ADDED,
	ROM_HEAP_THERE,				/* is there already */
	ROM_HEAP_FULL
} RomHeapResult;

extern Size rom_heaps_size(void);
extern void rom_heaps_init(RomHeaps *heaps);

/* Adds a ready instance to the queue of its owner. */
extern RomHeapResult rom_heap_push(RomHeaps *heaps, const RomReadyItem *item,
								   TimestampTz now);

/* The owner's queue, or NULL. Any of them, by number from 0. */
extern RomHeapQueue *rom_heap_find(RomHeaps *heaps, Oid dbid, Oid owner);
extern RomHeapQueue *rom_heap_queue(RomHeaps *heaps, int number);
extern int	rom_heap_queues(RomHeaps *heaps);

/* Takes the best of a queue that is not empty. */
extern void rom_heap_pop(RomHeaps *heaps, RomHeapQueue *queue, pg_uuid_t *id);

/* Has a scan filled the pool of the queues as far as it may; is so little left that the next scan is worth its while? */
extern bool rom_heap_filled(RomHeaps *heaps);
extern bool rom_heap_low(RomHeaps *heaps);

/* Adds a deadline; the same instance may have several, at different times. */
extern RomHeapResult rom_heap_add_deadline(RomHeaps *heaps,
										   const RomReadyItem *item);

/* The nearest deadline; DT_NOEND for none. */
extern TimestampTz rom_heap_next_deadline(RomHeaps *heaps);

/* Takes the nearest deadline, if there is one by now. */
extern bool rom_heap_take_deadline(RomHeaps *heaps, TimestampTz now,
								   RomReadyItem *item);

/* Drops the farthest quarter of the deadlines; dropped is told of each. */
extern void rom_heap_drop_farthest(RomHeaps *heaps,
								   void (*dropped) (Oid dbid, TimestampTz at));

/* Are fewer than half of the places for deadlines taken? */
extern bool rom_heap_half_empty(RomHeaps *heaps);

/* Forgets everything of a database. */
extern void rom_heap_purge(RomHeaps *heaps, Oid dbid);

#endif							/* ROM_HEAP_H */
