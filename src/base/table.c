/*-------------------------------------------------------------------------
 *
 * table.c
 *		Writing a row of an engine table without the executor.
 *
 * The table's and the indexes' descriptions, and the compiled predicates of
 * partial indexes, are kept until the relcache entry of the table or of one of
 * its indexes is invalidated. Those of the indexes are made for the first write: who
 * only reads does not open a dozen indexes for it. As in the server, the list of indexes is read under the
 * table's lock: CREATE INDEX CONCURRENTLY and its kin wait for that lock
 * between their steps, so a list that was read under it is good until it is released.
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
#include "utils/resowner.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "base/spi.h"
#include "base/table.h"

/* An index that inserts have to maintain: ready (CREATE INDEX CONCURRENTLY has come that far) and live (not being dropped). */
typedef struct TableIndex
{
	Oid			oid;
	IndexInfo  *info;
	ExprState  *predicate;		/* or NULL */
} TableIndex;

typedef struct RomTableState
{
	bool		valid;
	bool		changed;		/* invalidated since describe() began */
	Oid			relid;
	MemoryContext cxt;
	int			natts;
	int			attnums[ROM_TABLE_COLUMNS]; /* of the given columns, from 0 */
	bool		indexed;		/* the following were filled, by
								 * describe_indexes() */
	List	   *all_indexes;	/* oids, also of those that are not maintained */
	int			nindexes;
	TableIndex *indexes;
	EState	   *estate;			/* for predicates and expressions */

	/*
	 * between rom_table_keep_open() and rom_table_close_kept(), once it was
	 * used: open (or NULL), and its indexes, and a slot for its rows
	 */
	Relation	kept;
	Relation   *kept_indexes;	/* room for all of them, in cxt */
	TupleTableSlot *kept_slot;

	/* between rom_table_gather() and rom_table_gather_end() */
	bool		gathers;
	int			ngathered;		/* rows that are not written yet */
	int			nslots;
	TupleTableSlot *gathered[ROM_TABLE_GATHERED];
	struct RomTableState *next;
} RomTableState;

static RomTableState *states = NULL;

/* The resource owner of the tables that are kept open, or NULL. */
static ResourceOwner keeper = NULL;

Relation
rom_table_open(const char *name, LOCKMODE mode)
{
	Oid			before = InvalidOid;

	for (;;)
	{
		Oid			oid = InvalidOid;
		Relation	rel = NULL;

		if (OidIsValid(rom_extension_oid()))
			oid = rom_relation_oid(name);
		if (OidIsValid(oid) && oid != before)
			rel = try_table_open(oid, mode);
		if (rel != NULL)
			return rel;

		/*
		 * what this session knew was of an extension that is gone; there may
		 * be a new one
		 */
		if (!OidIsValid(oid) || oid == before)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_OBJECT),
					 errmsg("extension \"romancy\" was dropped"),
					 errdetail("Another session has dropped it while this statement ran."),
					 errhint("Run CREATE EXTENSION romancy.")));
		before = oid;
	}
}

/* invalidate: a table or an index may have changed (InvalidOid: any). */
static void
invalidate(Datum arg, Oid relid)
{
	for (RomTableState *state = states; state != NULL; state = state->next)
		if (relid == InvalidOid || state->relid == relid ||
			list_member_oid(state->all_indexes, relid))
		{
			state->valid = false;
			state->changed = true;
		}
}

/*
 * describe_indexes fills the list of a state's indexes, with their predicates and expressions ready to be evaluated. To prepare them calls functions,
 * the extension's or a DBA's: as the extension's owner, for it is not the caller who asked for that, and not by the caller's path.
 */
static void
describe_indexes(Relation rel, RomTableState *state)
{
	ListCell   *lc;

	state->estate = CreateExecutorState();
	state->all_indexes = RelationGetIndexList(rel);
	state->indexes = palloc_array(TableIndex, list_length(state->all_indexes));
	foreach(lc, state->all_indexes)
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);
		IndexInfo  *info = BuildIndexInfo(index);
		TableIndex *entry = &state->indexes[state->nindexes];

		if (info->ii_ReadyForInserts)
		{
			entry->oid = lfirst_oid(lc);
			entry->info = info;
			entry->predicate = NULL;
			if (info->ii_Predicate != NIL)
				entry->predicate = ExecPrepareQual(info->ii_Predicate, state->estate);
			if (info->ii_Expressions != NIL)
				info->ii_ExpressionsState = ExecPrepareExprList(info->ii_Expressions, state->estate);
			state->nindexes++;
		}
		index_close(index, AccessShareLock);
	}
}

/* describe_columns finds the given columns in the table. */
static void
describe_columns(RomTable *table, TupleDesc tupdesc, RomTableState *state)
{
	bool		given[MaxHeapAttributeNumber + 1] = {0};

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
}

/* describe fills a state from the catalogs, with the indexes if it is to write. An invalidation that arrives meanwhile leaves it invalid. */
static void
describe(RomTable *table, RomTableState *state, bool indexed)
{
	Relation	rel;
	MemoryContext old;
	RomEngine	engine;

	rel = rom_table_open(table->name, AccessShareLock);
	state->relid = RelationGetRelid(rel);
	state->valid = state->indexed = false;
	state->all_indexes = NIL;
	state->indexes = NULL;
	state->nindexes = 0;
	MemoryContextReset(state->cxt);
	old = MemoryContextSwitchTo(state->cxt);
	describe_columns(table, RelationGetDescr(rel), state);
	state->changed = false;
	if (indexed)
	{
		rom_engine_identity(&engine);
		describe_indexes(rel, state);
		rom_engine_identity_back(&engine);
		state->kept_indexes = palloc_array(Relation, state->nindexes + 1);
		state->indexed = true;
	}
	state->valid = !state->changed;
	MemoryContextSwitchTo(old);
	table_close(rel, AccessShareLock);
}

/* state_of returns the table's description, made anew where it is stale; with the indexes if it is to write. */
static RomTableState *
state_of(RomTable *table, bool indexed)
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
	/* one that is kept open is as it was when it was locked */
	if (state->kept == NULL && (!state->valid || (indexed && !state->indexed) || state->relid != rom_relation_oid(table->name)))
		describe(table, state, indexed);
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

/* lasting_slot is a slot for rows of a table that is kept open: an abort frees it, and with its resource owner what it refers to. */
static TupleTableSlot *
lasting_slot(Relation rel)
{
	MemoryContext old = MemoryContextSwitchTo(CurTransactionContext);
	TupleTableSlot *slot = table_slot_create(rel, NULL);

	MemoryContextSwitchTo(old);
	return slot;
}

/* take_slot is a slot for a row to be written; give_slot() gives it back. */
static TupleTableSlot *
take_slot(RomTableState *state, Relation rel)
{
	if (rel != state->kept)
		return table_slot_create(rel, NULL);
	/* an error that a subtransaction has caught may have left a row there */
	return ExecClearTuple(state->kept_slot);
}

static void
give_slot(RomTableState *state, TupleTableSlot *slot)
{
	if (slot == state->kept_slot)
		ExecClearTuple(slot);
	else
		ExecDropSingleTupleTableSlot(slot);
}

/* open_table opens the table for writing, its state up to date. */
static Relation
open_table(RomTable *table, const char *command)
{
	RomTableState *state = table->state;
	Relation	rel;

	rom_table_may_write(command);

	/*
	 * (its indexes are those that it had when it was locked: a new one waits
	 * for this transaction)
	 */
	if (state != NULL && state->kept != NULL)
		return state->kept;
	state = state_of(table, true);
	rel = rom_table_open(table->name, RowExclusiveLock);
	while (!state->valid || !state->indexed || state->relid != RelationGetRelid(rel))
		describe(table, state, true);	/* it changed before we had the lock */
	if (keeper != NULL && CurrentResourceOwner == keeper)
	{
		for (int i = 0; i < state->nindexes; i++)
			state->kept_indexes[i] = index_open(state->indexes[i].oid, RowExclusiveLock);
		state->kept_slot = lasting_slot(rel);
		state->kept = rel;
	}
	return rel;
}

/* close_table closes what open_table() has opened, but for what is kept open. */
static void
close_table(RomTable *table, Relation rel)
{
	if (rel != table->state->kept)
		table_close(rel, NoLock);
}

/* forget has a state keep nothing. */
static void
forget(RomTableState *state)
{
	state->kept = NULL;
	state->kept_slot = NULL;
	state->gathers = false;
	state->ngathered = state->nslots = 0;
}

/*
 * forget_kept is called when a resource owner releases what it has: that of an aborted (sub)transaction, or one whose code was torn out,
 * past any PG_CATCH, closes the tables itself.
 */
static void
forget_kept(ResourceReleasePhase phase, bool is_commit, bool is_top_level, void *arg)
{
	if (keeper == NULL || CurrentResourceOwner != keeper)
		return;
	for (RomTableState *state = states; state != NULL; state = state->next)
		forget(state);
	keeper = NULL;
}

bool
rom_table_keep_open(void)
{
	static bool registered = false;

	if (keeper != NULL)
		return false;
	if (!registered)
		RegisterResourceReleaseCallback(forget_kept, NULL);
	registered = true;
	keeper = CurrentResourceOwner;
	return true;
}

void
rom_table_close_kept(void)
{
	for (RomTableState *state = states; state != NULL; state = state->next)
	{
		if (state->kept == NULL)
			continue;
		Assert(!state->gathers);
		ExecDropSingleTupleTableSlot(state->kept_slot);
		for (int i = 0; i < state->nindexes; i++)
			index_close(state->kept_indexes[i], RowExclusiveLock);
		table_close(state->kept, NoLock);
		forget(state);
	}
	keeper = NULL;
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

/* index_entry makes the entry of a row that was just written, in one index, as index_row() says. The slot is the context's tuple. */
static void
index_entry(RomTable *table, Relation rel, int i, TupleTableSlot *slot, bool updated)
{
	RomTableState *state = table->state;
	ExprContext *econtext = GetPerTupleExprContext(state->estate);
	const TableIndex *entry = &state->indexes[i];
	IndexInfo  *info = entry->info;
	Relation	index;
	Datum		ivalues[INDEX_MAX_KEYS];
	bool		inulls[INDEX_MAX_KEYS];

	if (entry->predicate != NULL && !ExecQual(entry->predicate, econtext))
		return;
	index = state->kept ? state->kept_indexes[i] : index_open(entry->oid, RowExclusiveLock);
	/* what the access method keeps is in memory of this row */
	info->ii_AmCache = NULL;
	info->ii_Context = econtext->ecxt_per_tuple_memory;
	FormIndexDatum(info, slot, state->estate, ivalues, inulls);
	index_insert(index, ivalues, inulls, &slot->tts_tid, rel,
				 info->ii_Unique ? UNIQUE_CHECK_YES : UNIQUE_CHECK_NO,
				 updated && !table->few_versions && is_unchanged(table, info), info);
	if (info->ii_ExclusionOps != NULL)
		check_exclusion_constraint(rel, index, info, &slot->tts_tid, ivalues, inulls,
								   state->estate, false);
	rom_index_insert_end(index, info);
	if (state->kept == NULL)
		index_close(index, RowExclusiveLock);
}

/*
 * index_row makes the index entries of a row that was just written. updated: of a new version of
 * one; summarizing: only in indexes that summarize blocks. Constraints that a DBA
 * has added hold at once, deferrable ones too.
 */
static void
index_row(RomTable *table, Relation rel, TupleTableSlot *slot, bool updated, bool summarizing)
{
	RomTableState *state = table->state;
	ExprContext *econtext = GetPerTupleExprContext(state->estate);

	econtext->ecxt_scantuple = slot;
	for (int i = 0; i < state->nindexes; i++)
		if (!summarizing || rom_index_is_summarizing(state->indexes[i].info))
			index_entry(table, rel, i, slot, updated);
	ResetExprContext(econtext);
	econtext->ecxt_scantuple = NULL;
}

/* fill makes a row of the given columns. */
static void
fill(RomTable *table, TupleTableSlot *slot, Datum *values, bool *nulls)
{
	RomTableState *state = table->state;

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
}

/* insert_one inserts the row in the slot. */
static void
insert_one(RomTable *table, Relation rel, TupleTableSlot *slot)
{
	table_tuple_insert(rel, slot, GetCurrentCommandId(true), 0, NULL);
	index_row(table, rel, slot, false, false);
}

/*
 * write_gathered writes the rows that were gathered: into the table together, then into one index after the other, whose pages are at hand
 * then.
 */
static void
write_gathered(RomTable *table)
{
	RomTableState *state = table->state;
	ExprContext *econtext = GetPerTupleExprContext(state->estate);
	MemoryContext old;
	int			n = state->ngathered;

	/* (whatever happens, they are not written again) */
	state->ngathered = 0;
	if (n == 0)
		return;
	if (n == 1)
		insert_one(table, state->kept, state->gathered[0]);
	else
	{
		old = MemoryContextSwitchTo(econtext->ecxt_per_tuple_memory);
		table_multi_insert(state->kept, state->gathered, n, GetCurrentCommandId(true), 0, NULL);
		MemoryContextSwitchTo(old);
		for (int i = 0; i < state->nindexes; i++)
			for (int r = 0; r < n; r++)
			{
				econtext->ecxt_scantuple = state->gathered[r];
				index_entry(table, state->kept, i, state->gathered[r], false);
				ResetExprContext(econtext);
			}
		econtext->ecxt_scantuple = NULL;
	}
	for (int r = 0; r < n; r++)
		ExecClearTuple(state->gathered[r]);
	CommandCounterIncrement();
}

bool
rom_table_gathers(RomTable *table)
{
	return table->state != NULL && table->state->gathers && CurrentResourceOwner == keeper;
}

bool
rom_table_gather(RomTable *table)
{
	if (keeper == NULL || CurrentResourceOwner != keeper)
		return false;
	(void) open_table(table, "INSERT");
	if (table->state->gathers || table->state->kept == NULL)
		return false;
	table->state->gathers = true;
	return true;
}

void
rom_table_write(RomTable *table)
{
	Assert(rom_table_gathers(table));
	write_gathered(table);
}

void
rom_table_gather_end(RomTable *table)
{
	RomTableState *state = table->state;

	rom_table_write(table);
	for (int i = 0; i < state->nslots; i++)
		ExecDropSingleTupleTableSlot(state->gathered[i]);
	state->nslots = 0;
	state->gathers = false;
}

void
rom_table_insert(RomTable *table, Datum *values, bool *nulls)
{
	Relation	rel = open_table(table, "INSERT");
	RomTableState *state = table->state;
	TupleTableSlot *slot;

	if (rom_table_gathers(table))
	{
		if (state->ngathered == state->nslots)
			state->gathered[state->nslots++] = lasting_slot(rel);
		slot = state->gathered[state->ngathered];
		fill(table, slot, values, nulls);
		ExecMaterializeSlot(slot);
		if (++state->ngathered == ROM_TABLE_GATHERED)
			write_gathered(table);
		return;
	}
	slot = take_slot(state, rel);
	fill(table, slot, values, nulls);
	insert_one(table, rel, slot);
	give_slot(state, slot);
	close_table(table, rel);
	CommandCounterIncrement();
}

int64
rom_table_next_id(const char *sequence)
{
	bool		read_only = XactReadOnly;
	Relation	rel = rom_table_open(sequence, RowExclusiveLock);
	int64		id;

	/* as in rom_engine_begin(): an error's abort puts it back */
	if (rom_spi_override_read_only)
		XactReadOnly = false;
	id = nextval_internal(RelationGetRelid(rel), false);
	table_close(rel, NoLock);
	XactReadOnly = read_only;
	return id;
}

/*
 * seize takes the tuple's heavyweight lock if no other transaction locks or changes the row version
 * at this moment. heap_update() can only be called so that it waits, so callers that do not want to
 * wait hold this lock during their update: they exclude each other, and any other transaction for
 * which they would wait began after this check.
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
	TupleTableSlot *slot = take_slot(state, rel);
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
		index_row(table, rel, slot, true, rom_only_summarizing(indexes));
	if (!wait)
		UnlockTuple(rel, &tid, ExclusiveLock);
done:
	give_slot(state, slot);
	close_table(table, rel);
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
	close_table(table, rel);
	return result;
}

Oid
rom_table_oid(RomTable *table)
{
	return state_of(table, false)->relid;
}

Datum
rom_table_column(RomTable *table, TupleTableSlot *row, int column, bool *isnull)
{
	return slot_getattr(row, table->state->attnums[column] + 1, isnull);
}
