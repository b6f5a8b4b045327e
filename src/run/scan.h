/*-------------------------------------------------------------------------
 *
 * scan.h
 *		Finding work in the tables: after a start, an overflow, by a sweep.
 *
 * Each function runs in a transaction of the caller's (the scheduler's unit
 * runner), inside rom_engine_begin/end of its own, and hands what it finds to
 * wake.h's notes (published at the caller's commit).
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_SCAN_H
#define ROM_SCAN_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "utils/uuid.h"

/* Position of a scan over (wake_at, instance_id). */
typedef struct RomScanPos
{
	TimestampTz wake_at;		/* start with DT_NOBEGIN */
	pg_uuid_t	id;
} RomScanPos;

/*
 * Live instances in order of wake_at after pos, at most limit: those due by
 * now are noted as ready, others as deadlines. but: owners (oids) whose instances are left out. Returns how many rows it
 * saw, and moves pos.
 */
extern int	rom_scan_wake(RomScanPos *pos, int limit, List *but);

/*
 * Live instances that were written at a time that lies ahead, by a clock that has been set back since: each is
 * noted as ready, for a turn sets right what it waits for (run.c). A start that was asked for at a time keeps it. As for rom_scan_wake().
 */
extern int	rom_scan_ahead(RomScanPos *pos, int limit);

/* Instances with rows in their inbox, at most limit after the id; returns how many, moves after. */
extern int	rom_scan_inbox(pg_uuid_t *after, int limit);

/*
 * Registers a scan of another room's tables: like rom_scan_inbox(), with a
 * position of its own, zero at the start. Registered once, from _PG_init.
 */
typedef struct RomScanPlace
{
	bool		begun;
	int64		rank;
	pg_uuid_t	id;
} RomScanPlace;

typedef int (*RomScanHook) (RomScanPlace *place, int limit);
extern void rom_scan_on_database(RomScanHook hook);
extern RomScanHook rom_scan_hook(void);

/* Registers the engine's sweeps; called once from _PG_init. */
extern void rom_scan_init(void);

#endif							/* ROM_SCAN_H */
