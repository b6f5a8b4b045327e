/*-------------------------------------------------------------------------
 *
 * insert.h
 *		Inserting a row into an engine table without the executor.
 *
 * For the few statements that are called once for each workflow: an INSERT
 * through SPI spends most of its time on setting up the executor (18 % on
 * ExecutorStart alone, measured for t_instance with its partial indexes).
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_INSERT_H
#define ROM_INSERT_H

#define ROM_TABLE_COLUMNS 40

/* A table and the columns that are given, in the caller's order; declare it static. */
typedef struct RomTable
{
	const char *name;			/* in schema romancy */
	int			ncolumns;
	const char *columns[ROM_TABLE_COLUMNS];
	struct RomTableState *state;	/* NULL before the first use */
} RomTable;

/*
 * Inserts one row: values and nulls in the order of table->columns; other
 * columns are null. Unique violations are raised as an INSERT raises them. The
 * tables have no triggers, no defaults that count here, and no row security;
 * rights were checked by the caller. Error 25006 in a read-only transaction.
 */
extern void rom_table_insert(RomTable *table, Datum *values, bool *nulls);

/* The next value of a sequence of schema romancy, as an identity column takes it. Error 25006 in a read-only transaction. */
extern int64 rom_table_next_id(const char *sequence);

#endif							/* ROM_INSERT_H */
