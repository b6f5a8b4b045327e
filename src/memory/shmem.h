/*-------------------------------------------------------------------------
 *
 * shmem.h
 *		Shared memory: asked for at start, one area per file that keeps some.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_SHMEM_H
#define ROM_SHMEM_H

#include "storage/lwlock.h"

/* Installs the hooks; called from _PG_init while libraries are preloaded. */
extern void rom_shmem_init(void);

/* Is there shared memory, that is: was the library preloaded? */
extern bool rom_shmem_available(void);

/* The lock of the ready queues and deadlines (ready.c). */
extern LWLock *rom_shmem_ready_lock(void);

/*
 * The areas. size: how much, from the settings at start. attach: called by
 * the postmaster with found false, to fill it, and where processes do not
 * inherit it with found true.
 */
extern Size rom_roster_shmem_size(void);
extern void rom_roster_shmem_attach(void *place, bool found);
extern Size rom_ready_shmem_size(void);
extern void rom_ready_shmem_attach(void *place, bool found);
extern Size rom_slot_shmem_size(void);
extern void rom_slot_shmem_attach(void *place, bool found);
extern Size rom_waiter_shmem_size(void);
extern void rom_waiter_shmem_attach(void *place, bool found);

#endif							/* ROM_SHMEM_H */
