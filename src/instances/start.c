/*-------------------------------------------------------------------------
 *
 * start.c
 *		Starting instances: the core that all starts share.
 *
 * A start is meant to cost about what a one-row INSERT does: its definition
 * comes from the cache, its row from one kept plan, and the wake-up is a note
 * in memory. An idempotency key adds a row in t_idempotency, whose primary key makes a
 * second caller wait for the first.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

#include "base/arg.h"
#include "base/clock.h"
#include "base/compat.h"
#include "base/errors.h"
#include "base/rows.h"
#include "base/spi.h"
#include "base/table.h"
#include "base/uuid.h"
#include "defs/namespace.h"
#include "instances/document.h"
#include "instances/guc.h"
#include "instances/instance.h"
#include "instances/start.h"
#include "memory/shmem.h"
#include "memory/wake.h"

/* From this number of instances on, a scan finds them; a note for each would flood the ready queue. */
#define WAKE_EACH_MAX 1000

#define INSTANCE_COLUMNS \
	"instance_id, created_at, updated_at, wake_at, deadline, def_id," \
	" priority, flags, depth, status, owner, workflow, parent_id," \
	" parent_step, parent_close, continued_from, idempotency_key, input," \
	" labels, result_expires, namespace"

/* The common case: the id is new, so nothing can conflict. */
static RomTable instance_table = {
	"t_instance", 24, {
		"instance_id", "created_at", "wake_at", "deadline", "def_id", "priority",
		"flags", "depth", "owner", "workflow", "parent_id", "parent_step",
		"parent_close", "continued_from", "idempotency_key", "input", "labels",
		"result_expires", "updated_at", "status", "last_seq", "crashes", "namespace",
		"scheduled_at"
	}
};

/* The row of one that its first turn has completed: what that turn changed comes first. */
static RomTable turn_table = {
	"t_instance", ROM_TURN_COLUMNS + 12, {
		ROM_TURN_COLUMN_NAMES,
		"instance_id", "created_at", "deadline", "def_id", "priority", "depth", "owner",
		"workflow", "idempotency_key", "input", "result_expires", "namespace"
	}
};

/* Oid of the table of the last one that was started with RomStart.here; an abort cannot look it up. */
static Oid	table_oid = InvalidOid;

/* The same with an id from outside, which may exist. */
static RomStatement insert_instance_given = {
	"INSERT INTO romancy.t_instance (" INSTANCE_COLUMNS ")"
	" VALUES ($1, $2, $2, $3, $4, $5, $6, $7, $8, 'pending', $9, $10, $11, $12,"
	" $13, $14, $15, $16, $17, $18, $19)"
	" ON CONFLICT (instance_id) DO NOTHING",
	19, {UUIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID,
		INT4OID, INT4OID, INT2OID, TEXTOID, TEXTOID, UUIDOID, TEXTOID, TEXTOID,
	UUIDOID, TEXTOID, JSONBOID, JSONBOID, INTERVALOID, INT4OID}
};

/* Is the id the mailbox of a chain of generations whose first has been deleted? */
static RomStatement select_continued = {
	"SELECT 1 FROM romancy.t_instance WHERE mailbox = $1 AND status <> 'recurred'",
	1, {UUIDOID}
};

static RomStatement insert_instances = {
	"INSERT INTO romancy.t_instance (instance_id, created_at, updated_at,"
	" wake_at, deadline, def_id, priority, status, owner, workflow,"
	" idempotency_key, input, labels, result_expires, namespace)"
	" SELECT u.id, $4, $4, $5, $6, $7, $8, 'pending', $9, $10, u.key, u.input,"
	" $11, $12, $13 FROM unnest($1, $2, $3) u (id, input, key)",
	13, {UUIDARRAYOID, JSONBARRAYOID, TEXTARRAYOID, TIMESTAMPTZOID,
		TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID, INT4OID, TEXTOID, TEXTOID,
	JSONBOID, INTERVALOID, INT4OID}
};

static RomTable key_table = {"t_idempotency", 5, {"namespace", "owner", "workflow", "idempotency_key", "instance_id"}};

static RomStatement insert_key = {
	"INSERT INTO romancy.t_idempotency"
	" (owner, workflow, idempotency_key, instance_id, namespace) VALUES ($1, $2, $3, $5, $4)"
	" ON CONFLICT DO NOTHING",
	5, {TEXTOID, TEXTOID, TEXTOID, INT4OID, UUIDOID}
};

static RomStatement select_key = {
	"SELECT instance_id FROM romancy.t_idempotency"
	" WHERE owner = $1 AND workflow = $2 AND idempotency_key = $3 AND namespace = $4",
	4, {TEXTOID, TEXTOID, TEXTOID, INT4OID}
};

/* In order of the key, so that two callers with keys in common do not deadlock. */
static RomStatement insert_keys = {
	"INSERT INTO romancy.t_idempotency"
	" (owner, workflow, idempotency_key, instance_id, namespace)"
	" SELECT $1, $2, u.key, u.id, $4 FROM unnest($3, $5) u (key, id)"
	" WHERE u.key IS NOT NULL ORDER BY u.key, u.id ON CONFLICT DO NOTHING",
	5, {TEXTOID, TEXTOID, TEXTARRAYOID, INT4OID, UUIDARRAYOID}
};

/* A subquery, so that each key is looked up in the primary key, whatever the planner thinks of the table's size. */
static RomStatement select_keys = {
	"SELECT (SELECT i.instance_id FROM romancy.t_idempotency i"
	" WHERE i.owner = $1 AND i.workflow = $2 AND i.idempotency_key = u.key AND i.namespace = $4)"
	" FROM unnest($3) WITH ORDINALITY u (key, n) ORDER BY u.n",
	4, {TEXTOID, TEXTOID, TEXTARRAYOID, INT4OID}
};

/* rom_start_warn says once in a session that nothing will run what is started here. */
void
rom_start_warn(void)
{
	static bool warned = false;

	if (warned || rom_shmem_available())
		return;
	warned = true;
	ereport(WARNING,
			(errcode(ERRCODE_CONFIG_FILE_ERROR),
			 errmsg("romancy is not loaded at server start, so no worker runs workflows"),
			 errhint("Add romancy to shared_preload_libraries and restart the server. Until then, call romancy.drain() runs what is ready.")));
}

static void
check_labels(Jsonb *labels)
{
	if (labels != NULL && !JB_ROOT_IS_OBJECT(labels))
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("labels must be a JSON object")));
	rom_arg_check_payload(labels, "labels");
}

static bool (*on_unknown) (const RomWorkflow *workflow) = NULL;

void
rom_start_on_unknown(bool (*is_unknown) (const RomWorkflow *workflow))
{
	on_unknown = is_unknown;
}

/* wake notes that an instance is ready, now or later. */
static void
wake(const pg_uuid_t *id, Oid owner, int32 priority, TimestampTz start_at,
	 TimestampTz now, bool unknown)
{
	if (start_at > now)
		rom_wake_at(id, owner, priority, start_at);
	else if (unknown)
		rom_wake_unknown(id, owner, priority);
	else
		rom_wake_ready(id, owner, priority);
}

static Datum
text_or_null(const char *value, bool *isnull)
{
	*isnull = value == NULL;
	return value ? CStringGetTextDatum(value) : (Datum) 0;
}

static Datum
pointer_or_null(const void *value, bool *isnull)
{
	*isnull = value == NULL;
	return PointerGetDatum(value);
}

/* default_result_expires is what romancy.result_expires says for instances that start now; NULL when it is off. */
static const Interval *
default_result_expires(void)
{
	static Interval interval;

	if (rom_guc_result_expires <= 0)
		return NULL;
	interval.month = interval.day = 0;
	interval.time = (int64) rom_guc_result_expires * USECS_PER_SEC;
	return &interval;
}

/* expiry is how long the result of what starts is kept; NULL: for ever. */
static const Interval *
expiry(const RomStart *start)
{
	return start->result_expires ? start->result_expires : default_result_expires();
}

/*
 * refuse_continued refuses an id from outside, whose row has just been inserted, when it is that of a deleted
 * first generation: the messages of those that continued it would be the new one's. The deletion is over, or there
 * would have been a conflict; so the latest snapshot shows the last generation, whatever the caller's isolation.
 */
static void
refuse_continued(const pg_uuid_t *id)
{
	Datum		values[1] = {UUIDPGetDatum(id)};
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	uint64		rows = rom_execute_rows_at(NULL, &select_continued, values, NULL, snapshot, 1);

	UnregisterSnapshot(snapshot);
	if (rows > 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNIQUE_VIOLATION),
				 errmsg("the id \"%s\" is still in use", rom_uuid_text(id)),
				 errdetail("The workflow instance of that id was deleted, but its successor by recur still exists."),
				 errhint("Use another id.")));
}

/* insert_row writes the instance's row. Engine scope needed for an id from outside. */
static void
insert_row(const RomStart *start, const char *owner, const char *name,
		   const pg_uuid_t *id, TimestampTz created_at, TimestampTz start_at, TimestampTz deadline)
{
	Datum		v[24];
	bool		n[24] = {false};

	v[0] = UUIDPGetDatum(id);
	v[1] = TimestampTzGetDatum(created_at);
	v[2] = TimestampTzGetDatum(start_at);
	v[3] = TimestampTzGetDatum(deadline);
	n[3] = deadline == DT_NOEND;
	v[4] = Int32GetDatum(start->workflow->def_id);
	v[5] = Int32GetDatum(start->priority);
	v[6] = Int32GetDatum(start->flags);
	v[7] = Int16GetDatum(start->depth);
	v[8] = CStringGetTextDatum(owner);
	v[9] = CStringGetTextDatum(name);
	v[10] = pointer_or_null(start->has_parent ? &start->parent_id : NULL,
							&n[10]);
	v[11] = text_or_null(start->parent_step, &n[11]);
	v[12] = text_or_null(start->parent_close, &n[12]);
	v[13] = pointer_or_null(start->has_continued_from ?
							&start->continued_from : NULL, &n[13]);
	v[14] = text_or_null(start->idempotency_key, &n[14]);
	v[15] = pointer_or_null(start->input, &n[15]);
	v[16] = pointer_or_null(start->labels, &n[16]);
	v[17] = pointer_or_null(expiry(start), &n[17]);
	v[18] = Int32GetDatum(start->workflow->namespace);
	if (!start->has_id)
	{
		v[22] = v[18];
		v[18] = v[1];
		v[19] = rom_instance_status_datum(ROM_STATUS_PENDING);
		v[20] = Int64GetDatum(0);
		v[21] = Int16GetDatum(0);
		v[23] = TimestampTzGetDatum(start->scheduled_at);
		n[23] = !start->has_scheduled_at;
		rom_table_insert(&instance_table, v, n);
	}
	else if (rom_execute(&insert_instance_given, v, n, 0) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNIQUE_VIOLATION),
				 errmsg("workflow instance \"%s\" already exists",
						DatumGetCString(DirectFunctionCall1(uuid_out, v[0]))),
				 errhint("Use an idempotency_key where a repeated start is to find the first one's instance.")));
	else
		refuse_continued(id);
}

/*
 * claim_key takes an idempotency key for *id, and returns true; or returns false
 * and in *id the instance that has it. It waits for another transaction that
 * takes the same key at the moment. Engine scope needed. (Under REPEATABLE READ a
 * key that came after the snapshot is the INSERT's serialization error.)
 */
static bool
claim_key(int32 namespace, const char *owner, const char *name, const char *key, pg_uuid_t *id)
{
	Datum		values[5];
	bool		isnull;
	RomRowSet	set;

	values[0] = CStringGetTextDatum(owner);
	values[1] = CStringGetTextDatum(name);
	values[2] = CStringGetTextDatum(key);
	values[3] = Int32GetDatum(namespace);
	values[4] = UUIDPGetDatum(id);
	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		if (rom_execute(&insert_key, values, NULL, 0) == 1)
			return true;
		/* not there when it was deleted in between: once more */
		if (rom_execute_rows(&set, &select_key, values, NULL, 1) == 1)
		{
			*id = *DatumGetUUIDP(rom_value(&set, 0, 1, &isnull));
			return false;
		}
	}
}

bool
rom_start_would_wait(const RomStart *start, bool *is_free)
{
	RomRows		rows;
	ScanKeyData key[4];
	const char *texts[3] = {
		GetUserNameFromId(start->owner, false),
		start->name ? start->name : start->workflow->name,
		start->idempotency_key
	};
	bool		undecided;

	ScanKeyInit(&key[0], 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(start->workflow->namespace));
	for (int i = 0; i < 3; i++)
		ScanKeyEntryInitialize(&key[i + 1], 0, i + 2, BTEqualStrategyNumber, InvalidOid,
							   DEFAULT_COLLATION_OID, F_TEXTEQ, CStringGetTextDatum(texts[i]));
	rom_rows_open(&rows, &key_table, "t_idempotency_pkey", false);
	undecided = rom_rows_undecided(&rows, key, 4, is_free);
	rom_rows_close(&rows);
	return undecided;
}

/* insert_free_key takes an idempotency key that no instance has. Engine scope needed. */
static void
insert_free_key(const RomStart *start, const char *owner, const char *name, const pg_uuid_t *id)
{
	Datum		values[5] = {Int32GetDatum(start->workflow->namespace), CStringGetTextDatum(owner), CStringGetTextDatum(name),
	CStringGetTextDatum(start->idempotency_key), UUIDPGetDatum(id)};
	bool		nulls[5] = {false};

	rom_table_insert(&key_table, values, nulls);
}

/* fill_instance fills start->here with what insert_row() is to write. */
static void
fill_instance(const RomStart *start, const char *owner, const char *name, const pg_uuid_t *id,
			  TimestampTz created_at, TimestampTz start_at, TimestampTz deadline)
{
	RomInstance *inst = start->here;

	memset(inst, 0, sizeof(*inst));
	inst->id = inst->mailbox = *id;
	inst->def_id = start->workflow->def_id;
	inst->namespace = start->workflow->namespace;
	inst->priority = start->priority;
	inst->status = inst->resume_status = ROM_STATUS_PENDING;
	inst->flags = start->flags;
	inst->depth = start->depth;
	inst->owner_name = pstrdup(owner);
	inst->workflow = pstrdup(name);
	inst->input = start->input;
	inst->labels = start->labels;
	inst->created_at = created_at;
	inst->wake_at = start_at;
	inst->deadline = deadline;
	inst->unwritten = start;
	table_oid = rom_table_oid(&turn_table);
}

void
rom_start_write(RomInstance *inst)
{
	const RomStart *start = inst->unwritten;

	inst->unwritten = NULL;
	insert_row(start, inst->owner_name, inst->workflow, &inst->id, inst->created_at, inst->wake_at, inst->deadline);
}

void
rom_start_write_turn(RomInstance *inst, const Datum *values, const bool *nulls)
{
	const RomStart *start = inst->unwritten;
	Datum		v[ROM_TURN_COLUMNS + 12];
	bool		n[ROM_TURN_COLUMNS + 12] = {false};
	Datum	   *more = v + ROM_TURN_COLUMNS;
	bool	   *more_nulls = n + ROM_TURN_COLUMNS;

	memcpy(v, values, ROM_TURN_COLUMNS * sizeof(Datum));
	memcpy(n, nulls, ROM_TURN_COLUMNS * sizeof(bool));
	more[0] = UUIDPGetDatum(&inst->id);
	more[1] = TimestampTzGetDatum(inst->created_at);
	more[2] = TimestampTzGetDatum(inst->deadline);
	more_nulls[2] = inst->deadline == DT_NOEND;
	more[3] = Int32GetDatum(inst->def_id);
	more[4] = Int32GetDatum(inst->priority);
	more[5] = Int16GetDatum(inst->depth);
	more[6] = CStringGetTextDatum(inst->owner_name);
	more[7] = CStringGetTextDatum(inst->workflow);
	more[8] = text_or_null(start->idempotency_key, &more_nulls[8]);
	more[9] = pointer_or_null(inst->input, &more_nulls[9]);
	more[10] = pointer_or_null(expiry(start), &more_nulls[10]);
	more[11] = Int32GetDatum(inst->namespace);
	rom_table_insert(&turn_table, v, n);
	inst->unwritten = NULL;
}

bool
rom_start_lock(bool wait)
{
	if (!wait)
		return ConditionalLockRelationOid(table_oid, RowExclusiveLock);
	LockRelationOid(table_oid, RowExclusiveLock);
	return true;
}

bool
rom_start_rows_used(void)
{
	LOCKTAG		tag;

	SET_LOCKTAG_RELATION(tag, MyDatabaseId, table_oid);
	return rom_lock_held(&tag, AccessShareLock);
}

bool
rom_start_instance(const RomStart *start, pg_uuid_t *id)
{
	const char *name = start->name ? start->name : start->workflow->name;
	const char *owner = GetUserNameFromId(start->owner, false);
	TimestampTz now = rom_now();
	TimestampTz start_at = start->has_start_at ? start->start_at : now;
	const Interval *timeout = start->execution_timeout ?
		start->execution_timeout : start->workflow->execution_timeout;
	TimestampTz deadline = timeout ?
		rom_arg_timestamp_plus(start_at, timeout) : DT_NOEND;
	bool		is_new = true;
	RomEngine	engine;

	/* what runs in this transaction may look at its now() */
	TimestampTz created_at = start->here != NULL ? GetCurrentTransactionStartTimestamp() :
		GetCurrentTimestamp();

	rom_namespace_check_owner(start->workflow->namespace, start->owner);
	if (!(start->flags & ROM_IS_CANVAS))
		rom_arg_check_payload(start->input, "input");
	check_labels(start->labels);
	if (start->has_id)
		*id = start->id;
	else
		rom_uuid_v7(id);

	if (start->idempotency_key == NULL && !start->has_id)
	{
		if (start->here == NULL)
			insert_row(start, owner, name, id, created_at, start_at, deadline);
	}
	else
	{
		rom_engine_begin(&engine);
		if (start->key_is_free)
			insert_free_key(start, owner, name, id);
		else if (start->idempotency_key != NULL)
			is_new = claim_key(start->workflow->namespace, owner, name, start->idempotency_key, id);
		if (is_new && start->here == NULL)
			insert_row(start, owner, name, id, created_at, start_at, deadline);
		rom_engine_end(&engine);
	}
	if (is_new)
		rom_document_note_input(id, start->input);
	if (is_new && start->here != NULL)
		fill_instance(start, owner, name, id, created_at, start_at, deadline);
	else if (is_new)
		wake(id, start->owner, start->priority, start_at, now, !(start->flags & ROM_IS_CANVAS) && on_unknown(start->workflow));
	return is_new;
}

void
rom_start_resolve(const RomStartRequest *request, const char *path, RomStart *start)
{
	memset(start, 0, sizeof(*start));
	start->workflow = path ?
		rom_definition_resolve_in(rom_namespace_current(), request->name, request->version, path) :
		rom_definition_resolve(request->name, request->version);
	start->name = request->name;
	start->owner = GetUserId();
	start->input = request->input;
	start->has_id = request->has_id;
	start->id = request->id;
	start->idempotency_key = request->idempotency_key;
	start->has_start_at = request->has_start_at;
	start->start_at = request->start_at;
	start->priority = request->priority;
	start->labels = request->labels;
	start->execution_timeout = request->execution_timeout;
}

bool
rom_start_request(const RomStartRequest *request, const char *path,
				  pg_uuid_t *id)
{
	RomStart	start;

	rom_start_resolve(request, path, &start);
	return rom_start_instance(&start, id);
}

/* jsonb_array and text_array make arrays of one dimension, in which NULL pointers and nulls are null. */
static Datum
jsonb_array(Datum *inputs, bool *nulls, int n)
{
	int			dims[1] = {n};
	int			lbs[1] = {1};

	return PointerGetDatum(construct_md_array(inputs, nulls, 1, dims, lbs,
											  JSONBOID, -1, false,
											  TYPALIGN_INT));
}

static Datum
text_array(char **keys, int n)
{
	Datum	   *elements = palloc_array(Datum, Max(n, 1));
	bool	   *nulls = palloc_array(bool, Max(n, 1));
	int			dims[1] = {n};
	int			lbs[1] = {1};

	for (int i = 0; i < n; i++)
		elements[i] = text_or_null(keys ? keys[i] : NULL, &nulls[i]);
	return PointerGetDatum(construct_md_array(elements, nulls, 1, dims, lbs,
											  TEXTOID, -1, false,
											  TYPALIGN_INT));
}

/*
 * claim_keys takes the keys of many starts: afterwards ids[i] is whose key it
 * is, and fresh[i] tells whether that is the id made for it here.
 */
static void
claim_keys(const RomStartMany *many, int32 namespace, const char *owner, pg_uuid_t *ids,
		   bool *fresh)
{
	Datum		values[5];
	pg_uuid_t  *found = palloc_array(pg_uuid_t, many->count);
	bool		missing = true;
	RomRowSet	set;

	values[0] = CStringGetTextDatum(owner);
	values[1] = CStringGetTextDatum(many->common.name);
	values[2] = text_array(many->keys, many->count);
	values[3] = Int32GetDatum(namespace);
	values[4] = rom_uuid_array(ids, many->count);
	while (missing)
	{
		CHECK_FOR_INTERRUPTS();
		rom_execute(&insert_keys, values, NULL, 0);
		if (rom_execute_rows(&set, &select_keys, values, NULL, 0) != many->count)
			elog(ERROR, "unexpected number of idempotency keys");
		missing = false;
		for (int i = 0; i < many->count; i++)
		{
			bool		isnull;
			Datum		id = rom_value(&set, i, 1, &isnull);

			found[i] = isnull ? ids[i] : *DatumGetUUIDP(id);
			/* deleted between the two statements: once more */
			missing |= isnull && many->keys[i] != NULL;
		}
		rom_execute_free(&set);
	}
	for (int i = 0; i < many->count; i++)
	{
		fresh[i] = memcmp(&found[i], &ids[i], sizeof(pg_uuid_t)) == 0;
		ids[i] = found[i];
	}
	pfree(found);
}

/* insert_many writes the rows of those that are fresh (NULL: all). Engine scope needed. */
static void
insert_many(const RomStartMany *many, const RomWorkflow *workflow,
			const char *owner, const pg_uuid_t *ids, const bool *fresh,
			TimestampTz start_at)
{
	int			n = 0;
	pg_uuid_t  *new_ids = palloc_array(pg_uuid_t, many->count);
	Datum	   *inputs = palloc_array(Datum, many->count);
	bool	   *input_nulls = palloc_array(bool, many->count);
	char	  **keys = palloc_array(char *, many->count);
	Datum		v[13];
	bool		nulls[13] = {false};

	for (int i = 0; i < many->count; i++)
	{
		if (fresh != NULL && !fresh[i])
			continue;
		new_ids[n] = ids[i];
		inputs[n] = many->inputs[i];
		input_nulls[n] = many->input_nulls[i];
		keys[n] = many->keys ? many->keys[i] : NULL;
		n++;
	}
	if (n == 0)
		return;
	v[0] = rom_uuid_array(new_ids, n);
	v[1] = jsonb_array(inputs, input_nulls, n);
	v[2] = text_array(keys, n);
	v[3] = TimestampTzGetDatum(GetCurrentTimestamp());
	v[4] = TimestampTzGetDatum(start_at);
	nulls[5] = workflow->execution_timeout == NULL;
	v[5] = nulls[5] ? (Datum) 0 :
		TimestampTzGetDatum(rom_arg_timestamp_plus(start_at,
												   workflow->execution_timeout));
	v[6] = Int32GetDatum(workflow->def_id);
	v[7] = Int32GetDatum(many->common.priority);
	v[8] = CStringGetTextDatum(owner);
	v[9] = CStringGetTextDatum(many->common.name);
	v[10] = pointer_or_null(many->common.labels, &nulls[10]);
	v[11] = pointer_or_null(default_result_expires(), &nulls[11]);
	v[12] = Int32GetDatum(workflow->namespace);
	rom_execute(&insert_instances, v, nulls, 0);
}

pg_uuid_t *
rom_start_many(const RomStartMany *many, const char *path)
{
	const RomStartRequest *common = &many->common;
	RomWorkflow *workflow = path ?
		rom_definition_resolve_in(rom_namespace_current(), common->name, common->version, path) :
		rom_definition_resolve(common->name, common->version);
	const char *owner = GetUserNameFromId(GetUserId(), false);
	TimestampTz now = rom_now();
	TimestampTz start_at = common->has_start_at ? common->start_at : now;
	pg_uuid_t  *ids = palloc_array(pg_uuid_t, Max(many->count, 1));
	bool	   *fresh = NULL;
	RomEngine	engine;

	rom_namespace_check_owner(workflow->namespace, GetUserId());
	check_labels(common->labels);
	for (int i = 0; i < many->count; i++)
	{
		if (!many->input_nulls[i])
			rom_arg_check_payload((Jsonb *) DatumGetPointer(many->inputs[i]),
								  "inputs");
		rom_uuid_v7(&ids[i]);
	}
	if (many->count == 0)
		return ids;

	rom_engine_begin(&engine);
	if (many->keys != NULL)
	{
		fresh = palloc_array(bool, many->count);
		claim_keys(many, workflow->namespace, owner, ids, fresh);
	}
	insert_many(many, workflow, owner, ids, fresh, start_at);
	for (int i = 0; i < many->count; i++)
		if (!many->input_nulls[i] && (fresh == NULL || fresh[i]))
			rom_document_note_input(&ids[i], (Jsonb *) DatumGetPointer(many->inputs[i]));
	rom_engine_end(&engine);

	if (many->count > WAKE_EACH_MAX)
		rom_wake_scan();
	else
	{
		bool		unknown = on_unknown(workflow);

		for (int i = 0; i < many->count; i++)
		{
			if (many->keys == NULL || fresh[i])
				wake(&ids[i], GetUserId(), common->priority, start_at, now, unknown);
		}
	}
	return ids;
}
