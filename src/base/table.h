/*-------------------------------------------------------------------------
 *
 * table.h
 *		Writing a row of an engine table without the executor.
 *
 * For the few statements that are called once for each workflow or task: an INSERT
 * through SPI spends most of its time on setting up the executor (18 % on
 * ExecutorStart alone, measured for t_instance with its partial indexes).
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_TABLE_H
#define ROM_TABLE_H

#include "access/tableam.h"
#include "executor/tuptable.h"
#include "storage/lockdefs.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

#define ROM_TABLE_COLUMNS 40

/* So many rows that are gathered are written together. */
#define ROM_TABLE_GATHERED 64

/* A table and the columns that are given, in the caller's order; declare it static. */
typedef struct RomTable
{
	const char *name;			/* in schema romancy */
	int			ncolumns;
	const char *columns[ROM_TABLE_COLUMNS];
	bool		partial;		/* for reading and changing: columns may be
								 * left out that cannot be null */
	bool		few_versions;	/* a row is changed once or twice: an index's
								 * full page is not searched for older
								 * versions' entries */
	struct RomTableState *state;	/* NULL before the first use */
} RomTable;

/*
 * Opens a table or a sequence of schema romancy by its name, as table_open() does. Where DROP EXTENSION of another session has
 * taken it away meanwhile: error 42704.
 */
extern Relation rom_table_open(const char *name, LOCKMODE mode);

/*
 * Inserts one row: values and nulls in the order of table->columns; other
 * columns are null. Unique violations are raised as an INSERT raises them. The
 * tables have no triggers, no defaults that count here, and no row security;
 * rights were checked by the caller. Error 25006 in a read-only transaction.
 */
extern void rom_table_insert(RomTable *table, Datum *values, bool *nulls);

/*
 * For many rows in turn: the tables that are written meanwhile, and their indexes, stay open. True: the caller is the one who calls
 * rom_table_close_kept() when it is done (not after an error: then they are closed with all that the resource owner has). No code of
 * users' runs between.
 */
extern bool rom_table_keep_open(void);
extern void rom_table_close_kept(void);

/*
 * Where tables are kept open: has rows that rom_table_insert() gets be gathered, and written many at a time, until rom_table_gather_end(),
 * which the caller is to call if this is true. An error loses what is not written, with all that the transaction has done. Nothing
 * that reads the table may run meanwhile, nor a subtransaction that inserts and is not to be undone with the rest. rom_table_write()
 * writes what there is; rom_table_gathers(): would an insert into the table be gathered now?
 */
extern bool rom_table_gather(RomTable *table);
extern bool rom_table_gathers(RomTable *table);
extern void rom_table_write(RomTable *table);
extern void rom_table_gather_end(RomTable *table);

/* The next value of a sequence of schema romancy, as an identity column takes it. Error 25006 in a read-only transaction. */
extern int64 rom_table_next_id(const char *sequence);

/*
 * Gives the table's columns new values in a row that a scan of rows.h has found, those of snapshot.
 * wait: for others that hold it. TM_Ok: done; TM_BeingModified: without wait, a transaction
 * (perhaps this one) has it locked; else it was changed or deleted. Changes are seen after
 * CommandCounterIncrement().
 */
extern TM_Result rom_table_update(RomTable *table, TupleTableSlot *row, Datum *values, bool *nulls,
								  Snapshot snapshot, bool wait);

/* Deletes the row version at tid, likewise. */
extern TM_Result rom_table_delete(RomTable *table, ItemPointer tid, bool wait);

/* Raises 25006 where the command (its name, for the message) may not write: read-only transactions, recovery, parallel mode. */
extern void rom_table_may_write(const char *command);

/* The table's oid. Column column (of table->columns) of a row of it; rom_table_oid() comes before. */
extern Oid	rom_table_oid(RomTable *table);
extern Datum rom_table_column(RomTable *table, TupleTableSlot *row, int column, bool *isnull);

#endif							/* ROM_TABLE_H */
