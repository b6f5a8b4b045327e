/*-------------------------------------------------------------------------
 *
 * rows.h
 *		Finding rows of an engine table by an index, without the executor.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_ROWS_H
#define ROM_ROWS_H

#include "access/relscan.h"
#include "access/skey.h"
#include "utils/uuid.h"

#include "base/table.h"

/* A table and one of its indexes, open. */
typedef struct RomRows
{
	RomTable   *table;
	Relation	rel;
	Relation	index;
	Snapshot	snapshot;		/* what is visible, own changes among it */
	TupleTableSlot *slot;		/* the row that was found */
	struct IndexScanDescData *scan; /* of the last search, or NULL */
	int			nkeys;			/* of that */
	bool		active;			/* the snapshot is the running query's */
} RomRows;

/* Opens the table and an index of it, by name, to read or (writing) to change rows, with a new snapshot. An error closes it. */
extern void rom_rows_open(RomRows *rows, RomTable *table, const char *index, bool writing);
extern void rom_rows_close(RomRows *rows);

/*
 * The same to read, or (locking) for rom_rows_claim(): sees what a SELECT of the transaction would see now, which in a REPEATABLE READ
 * transaction is its own snapshot.
 */
extern void rom_rows_open_select(RomRows *rows, RomTable *table, const char *index, bool locking);

/* The same to read what the running query sees. */
extern void rom_rows_open_active(RomRows *rows, RomTable *table, const char *index);

/* Finds the visible row whose first index column is this id: true, and it is in rows->slot. */
extern bool rom_rows_find(RomRows *rows, const pg_uuid_t *id);

/* The next one with the same key, in the index's order. */
extern bool rom_rows_next(RomRows *rows);

/* The first one, with a text; with a number. */
extern bool rom_rows_find_text(RomRows *rows, const char *text);
extern bool rom_rows_find_int(RomRows *rows, int32 number);

/* The first one, with a number and a text, of an index that begins with such columns. */
extern bool rom_rows_find_int_text(RomRows *rows, int32 number, const char *text);

/*
 * Does another transaction, which has not ended, insert or delete a row with this key? What would insert one waits for it then. Another may
 * begin to right after the answer. *none: no transaction has one, or has begun to.
 */
extern bool rom_rows_undecided(RomRows *rows, ScanKey key, int nkeys, bool *none);

/*
 * Locks the row that was found, for update, waiting for others; rows->slot is its newest
 * version then. False when the row was deleted.
 */
extern bool rom_rows_lock(RomRows *rows);

/* Locks it as it was found, without waiting. False when it is not to be had. */
extern bool rom_rows_try_lock(RomRows *rows);

/*
 * Locks it as SELECT FOR NO KEY UPDATE (or, with LockTupleExclusive, FOR UPDATE) does, without wait as with SKIP LOCKED; rows->slot is its newest version then. False when it is not
 * to be had. In a REPEATABLE READ transaction error 40001 when another transaction has changed it.
 */
extern bool rom_rows_claim(RomRows *rows, LockTupleMode mode, bool wait);

/* Column column (of table->columns) of the row that was found. */
extern Datum rom_rows_column(RomRows *rows, int column, bool *isnull);

/* The same of a text, copied into the current context; NULL for null. */
extern char *rom_rows_text(RomRows *rows, int column);

#endif							/* ROM_ROWS_H */
