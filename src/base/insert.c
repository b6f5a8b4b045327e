/*-------------------------------------------------------------------------
 *
 * insert.c
 *		Writing a row of an engine table without the executor.
 *
 * The table's and the indexes' descriptions, and the compiled predicates of
 * partial indexes, are kept until the table's relcache entry is invalidated.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/index.h"
#include "commands/sequence.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "base/insert.h"
#include "base/spi.h"

#define INDEXES_MAX 16

typedef struct RomTableState
{
	bool		valid;
	Oid			relid;
	MemoryContext cxt;
	int			natts;
	int			attnums[ROM_TABLE_COLUMNS]; /* of the given columns, from 0 */
	int			nindexes;
	Oid			indexes[INDEXES_MAX];
	IndexInfo  *infos[INDEXES_MAX];
	ExprState  *predicates[INDEXES_MAX];	/* or NULL */
	EState	   *estate;			/* for predicates and expressions */
	struct RomTableState *next;
} RomTableState;

static RomTableState *states = NULL;

/* invalidate: a table may have changed (InvalidOid: any). */
static void
invalidate(Datum arg, Oid relid)
{
	for (RomTableState *state = states; state != NULL; state = state->next)
		if (relid == InvalidOid || state->relid == relid)
			state->valid = false;
}

/* describe fills a state from the catalogs. */
static void
describe(RomTable *table, RomTableState *state)
{
	Relation	rel;
	TupleDesc	tupdesc;
	List	   *oids;
	ListCell   *lc;
	bool		given[MaxHeapAttributeNumber + 1] = {0};
	MemoryContext old;

	state->relid = rom_relation_oid(table->name);
	rel = table_open(state->relid, AccessShareLock);
	tupdesc = RelationGetDescr(rel);
	MemoryContextReset(state->cxt);
	old = MemoryContextSwitchTo(state->cxt);
	state->natts = tupdesc->natts;
	for (int i = 0; i < table->ncolumns; i++)
	{
		state->attnums[i] = -1;
		for (int a = 0; a < tupdesc->natts; a++)
			if (strcmp(NameStr(TupleDescAttr(tupdesc, a)->attname), table->columns[i]) == 0)
			{
				state->attnums[i] = a;
				given[a] = true;
			}
		if (state->attnums[i] < 0)
			elog(ERROR, "table romancy.%s has no column \"%s\"", table->name, table->columns[i]);
	}
	for (int a = 0; a < tupdesc->natts; a++)
		if (TupleDescAttr(tupdesc, a)->attnotnull && !given[a] && !table->partial)
			elog(ERROR, "column \"%s\" of romancy.%s is not given",
				 NameStr(TupleDescAttr(tupdesc, a)->attname), table->name);

	state->estate = CreateExecutorState();
	state->nindexes = 0;
	oids = RelationGetIndexList(rel);
	foreach(lc, oids)
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);
		int			n = state->nindexes++;

		if (n >= INDEXES_MAX)
			elog(ERROR, "romancy.%s has more than %d indexes", table->name, INDEXES_MAX);
		state->indexes[n] = lfirst_oid(lc);
		state->infos[n] = BuildIndexInfo(index);
		state->predicates[n] = NULL;
		if (state->infos[n]->ii_Predicate != NIL)
			state->predicates[n] = ExecPrepareQual(state->infos[n]->ii_Predicate, state->estate);
		index_close(index, AccessShareLock);
	}
	MemoryContextSwitchTo(old);
	table_close(rel, AccessShareLock);
	state->valid = true;
}

/* state_of returns the table's description, made anew where it is stale. */
static RomTableState *
state_of(RomTable *table)
{
	RomTableState *state = table->state;

	if (state == NULL)
	{
		if (states == NULL)
			CacheRegisterRelcacheCallback(invalidate, (Datum) 0);
		state = MemoryContextAllocZero(TopMemoryContext, sizeof(RomTableState));
		state->cxt = AllocSetContextCreate(TopMemoryContext, "romancy insert",
										   ALLOCSET_SMALL_SIZES);
		state->next = states;
		states = state;
		table->state = state;
	}
	if (!state->valid || state->relid != rom_relation_oid(table->name))
		describe(table, state);
	return state;
}

void
rom_table_may_write(const char *command)
{
	if (XactReadOnly && !rom_spi_override_read_only)
		PreventCommandIfReadOnly(command);
	PreventCommandDuringRecovery(command);
	PreventCommandIfParallelMode(command);
}

/* open_table opens the table for writing, its state up to date. */
static Relation
open_table(RomTable *table, const char *command)
{
	RomTableState *state = state_of(table);
	Relation	rel;

	rom_table_may_write(command);
	rel = table_open(state->relid, RowExclusiveLock);
	if (!state->valid)
		describe(table, state); /* it changed while we waited for the lock */
	return rel;
}

/* is_unchanged: does an update of the table's columns leave an index's columns as they were? */
static bool
is_unchanged(RomTable *table, const IndexInfo *info)
{
	for (int k = 0; k < info->ii_NumIndexAttrs; k++)
	{
		if (info->ii_IndexAttrNumbers[k] == 0)
			return false;		/* an expression */
		for (int i = 0; i < table->ncolumns; i++)
			if (table->state->attnums[i] == info->ii_IndexAttrNumbers[k] - 1)
				return false;
	}
	return true;
}

/* index_row makes the index entries of a row that was just written; update: of a new version of one. */
static void
index_row(RomTable *table, Relation rel, TupleTableSlot *slot, bool update)
{
	RomTableState *state = table->state;
	ExprContext *econtext = GetPerTupleExprContext(state->estate);

	econtext->ecxt_scantuple = slot;
	for (int i = 0; i < state->nindexes; i++)
	{
		IndexInfo  *info = state->infos[i];
		Relation	index;
		Datum		ivalues[INDEX_MAX_KEYS];
		bool		inulls[INDEX_MAX_KEYS];

		if (state->predicates[i] != NULL && !ExecQual(state->predicates[i], econtext))
			continue;
		index = index_open(state->indexes[i], RowExclusiveLock);
		FormIndexDatum(info, slot, state->estate, ivalues, inulls);
		index_insert(index, ivalues, inulls, &slot->tts_tid, rel,
					 info->ii_Unique ? UNIQUE_CHECK_YES : UNIQUE_CHECK_NO,
					 update && is_unchanged(table, info), info);
		index_close(index, RowExclusiveLock);
	}
	ResetExprContext(econtext);
	econtext->ecxt_scantuple = NULL;
}

void
rom_table_insert(RomTable *table, Datum *values, bool *nulls)
{
	Relation	rel = open_table(table, "INSERT");
	RomTableState *state = table->state;
	TupleTableSlot *slot = table_slot_create(rel, NULL);

	for (int a = 0; a < state->natts; a++)
	{
		slot->tts_values[a] = (Datum) 0;
		slot->tts_isnull[a] = true;
	}
	for (int i = 0; i < table->ncolumns; i++)
	{
		slot->tts_values[state->attnums[i]] = values[i];
		slot->tts_isnull[state->attnums[i]] = nulls[i];
	}
	ExecStoreVirtualTuple(slot);
	table_tuple_insert(rel, slot, GetCurrentCommandId(true), 0, NULL);
	index_row(table, rel, slot, false);
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, NoLock);
	CommandCounterIncrement();
}

int64
rom_table_next_id(const char *sequence)
{
	bool		read_only = XactReadOnly;
	int64		id;

	/* as in rom_engine_begin(): an error's abort puts it back */
	if (rom_spi_override_read_only)
		XactReadOnly = false;
	id = nextval_internal(rom_relation_oid(sequence), false);
	XactReadOnly = read_only;
	return id;
}

/*
 * seize takes the tuple's heavyweight lock if nobody else locks or changes the
 * row version at this moment. heap_update() has to be called so that it waits, so
 * those who do not want to hold this lock during their update: they keep out
 * each other, and anybody else they would wait for began after this look.
 */
static TM_Result
seize(Relation rel, TupleTableSlot *row)
{
	Buffer		buffer = ((BufferHeapTupleTableSlot *) row)->buffer;
	HeapTuple	tuple = ExecFetchSlotHeapTuple(row, false, NULL);
	TM_Result	result;

	if (!rom_lock_tuple_conditional(rel, &row->tts_tid, ExclusiveLock))
		return TM_BeingModified;
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	result = HeapTupleSatisfiesUpdate(tuple, GetCurrentCommandId(false), buffer);
	LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
	if (result != TM_Ok)
		UnlockTuple(rel, &row->tts_tid, ExclusiveLock);
	return result;
}

TM_Result
rom_table_update(RomTable *table, TupleTableSlot *row, Datum *values, bool *nulls,
				 Snapshot snapshot, bool wait)
{
	Relation	rel = open_table(table, "UPDATE");
	RomTableState *state = table->state;
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	ItemPointerData tid = row->tts_tid;
	TM_FailureData failure;
	LockTupleMode mode;
	TU_UpdateIndexes indexes;
	TM_Result	result = wait ? TM_Ok : seize(rel, row);

	if (result != TM_Ok)
		goto done;
	slot_getallattrs(row);
	memcpy(slot->tts_values, row->tts_values, state->natts * sizeof(Datum));
	memcpy(slot->tts_isnull, row->tts_isnull, state->natts * sizeof(bool));
	for (int i = 0; i < table->ncolumns; i++)
	{
		slot->tts_values[state->attnums[i]] = values[i];
		slot->tts_isnull[state->attnums[i]] = nulls[i];
	}
	ExecStoreVirtualTuple(slot);
	result = table_tuple_update(rel, &tid, slot, GetCurrentCommandId(true), snapshot,
								InvalidSnapshot, true, &failure, &mode, &indexes);
	if (result == TM_Ok && indexes != TU_None)
		index_row(table, rel, slot, true);
	if (!wait)
		UnlockTuple(rel, &tid, ExclusiveLock);
done:
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, NoLock);
	return result;
}

TM_Result
rom_table_delete(RomTable *table, ItemPointer tid, bool wait)
{
	Relation	rel = open_table(table, "DELETE");
	TM_FailureData failure;
	TM_Result	result;

	result = table_tuple_delete(rel, tid, GetCurrentCommandId(true), SnapshotAny,
								InvalidSnapshot, wait, &failure, false);
	table_close(rel, NoLock);
	return result;
}

Oid
rom_table_oid(RomTable *table)
{
	return state_of(table)->relid;
}

Datum
rom_table_column(RomTable *table, TupleTableSlot *row, int column, bool *isnull)
{
	return slot_getattr(row, table->state->attnums[column] + 1, isnull);
}
