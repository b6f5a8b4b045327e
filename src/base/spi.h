/*-------------------------------------------------------------------------
 *
 * spi.h
 *		Engine SQL: identity, kept plans, typed values.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_SPI_H
#define ROM_SPI_H

#include "executor/spi.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

/*
 * A statement of the engine. Declare it static; the plan is prepared on first
 * use and kept. All names in the text are schema-qualified, all values are
 * parameters. States, kinds and flags of rows are literals, so that the planner can
 * use a partial index: macros ROM_SQL_..., which stand beside their enums
 * (test/check/state-names compares both).
 */
typedef struct RomStatement
{
	const char *sql;
	int			nargs;
	Oid			argtypes[20];
	SPIPlanPtr	plan;			/* kept, or NULL before the first use */
	bool		generic;		/* keep the generic plan: never plan for the
								 * values of one call */
} RomStatement;

/* The state that rom_engine_begin() changed and rom_engine_end() restores. */
typedef struct RomEngine
{
	Oid			userid;
	int			sec_context;
	int			guc_level;
	bool		read_only;
} RomEngine;

/*
 * Enters the engine: connects SPI, becomes the extension's owner, pins the
 * search_path and allows writing (XactReadOnly off) for engine tables.
 * rom_engine_end() undoes all of it; on an error the (sub)transaction's abort
 * does. Results have to be copied out (SPI_palloc'd or into an outer context)
 * before the end.
 */
extern void rom_engine_begin(RomEngine *engine);
extern void rom_engine_end(RomEngine *engine);

/* The owner and the path alone, for what calls functions and runs no statement. */
extern void rom_engine_identity(RomEngine *engine);
extern void rom_engine_identity_back(RomEngine *engine);

/* The rows that a statement returned. They live until rom_engine_end(), or rom_execute_free(). */
typedef struct RomRowSet
{
	uint64		count;
	SPITupleTable *table;
} RomRowSet;

/*
 * Executes a statement with a fresh snapshot (read_only false semantics, so
 * that own changes and those committed by now are seen), and returns the number of rows
 * that it returned or changed. nulls: an array of bool, or NULL
 * when no argument is null. limit 0: all rows.
 */
extern uint64 rom_execute(RomStatement *stmt, Datum *values, const bool *nulls,
						  long limit);

/* The same, for the rows that it returns. */
extern uint64 rom_execute_rows(RomRowSet *set, RomStatement *stmt, Datum *values,
							   const bool *nulls, long limit);

/* The same with a plan for these values alone, where the best index depends on them. */
extern uint64 rom_execute_rows_once(RomRowSet *set, RomStatement *stmt, Datum *values,
									const bool *nulls);

/* The same with a given snapshot (own changes are seen). set may be NULL. */
extern uint64 rom_execute_rows_at(RomRowSet *set, RomStatement *stmt, Datum *values,
								  const bool *nulls, Snapshot snapshot, long limit);

/*
 * The session's settings that a statement changed for its plan are put back, where it was torn out past its PG_FINALLY(). Called before
 * the rollback, which may have others to put back.
 */
extern void rom_spi_torn_out(void);

/* Is a statement of the engine's being read, planned or run? */
extern bool rom_spi_under_way(void);

/* The next rows of a cursor, at most limit; 0 at its end. */
extern uint64 rom_execute_fetch(RomRowSet *set, Portal portal, long limit);

/* Frees the rows before the engine's scope ends: for loops that read many. */
extern void rom_execute_free(RomRowSet *set);

/* Column col (from 1) of row row (from 0). */
extern Datum rom_value(const RomRowSet *set, uint64 row, int col, bool *isnull);

/* The same as C values; NULL or the default given when the column is null. Copies live in cxt. */
extern char *rom_value_text(const RomRowSet *set, uint64 row, int col, MemoryContext cxt);
extern Datum rom_value_copy(const RomRowSet *set, uint64 row, int col, bool *isnull,
							MemoryContext cxt);

/* The extension's oid, owner and schema; InvalidOid when it is not installed in this database. Cached, invalidated with pg_extension. */
extern Oid	rom_extension_oid(void);
extern Oid	rom_extension_owner(void);

/* Locks the extension against DROP EXTENSION until the transaction's end; false when it does not exist (any more). */
extern bool rom_extension_lock(void);

/* Oid of a relation or a type in schema romancy, by name; cached with the extension's oid. Error if it is missing. */
extern Oid	rom_relation_oid(const char *name);
extern Oid	rom_type_oid(const char *name);

/* Set while a handler is evaluated read-only: engine statements may write nevertheless. */
extern bool rom_spi_override_read_only;

#endif							/* ROM_SPI_H */
