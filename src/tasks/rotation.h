/*-------------------------------------------------------------------------
 *
 * rotation.h
 *		Keys of a queue take turns: which one was served last, in shared memory.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_ROTATION_H
#define ROM_ROTATION_H

/* Longest key, in bytes. */
#define ROM_ROTATION_KEY_MAX 500

/* A queue: a number of the caller's, and its namespace. */
typedef struct RomRotation
{
	uint64		key;
	int32		namespace;
} RomRotation;

/* Copies the key of a queue that was served last, of ROM_ROTATION_KEY_MAX + 1 bytes; false when there is none. */
extern bool rom_rotation_last(const RomRotation *queue, char *key);
extern void rom_rotation_served(const RomRotation *queue, const char *key);

/*
 * Is it time to look for tasks of the queue that have no key? At once after a look that found as many as it may (more: there may be
 * others), else not more often than every so often, and the longer the look took (microseconds) the more seldom.
 */
extern bool rom_rotation_look(const RomRotation *queue);
extern void rom_rotation_looked(const RomRotation *queue, bool more, int64 took);

/* Registers the part of shared memory; called once from _PG_init. */
extern void rom_rotation_init(void);

#endif							/* ROM_ROTATION_H */
