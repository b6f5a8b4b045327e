/*-------------------------------------------------------------------------
 *
 * recur.c
 *		An instance that continues in a new one.
 *
 * One transaction, that of the turn in which the handler calls recur(), ends
 * the old instance, moves its history to the archive and starts the new one. A
 * request that reaches the old one too late (its turn did not see it) is passed
 * on by the next turn of the old one, which does nothing else.
 *
 * Messages stay where they are: all generations have one mailbox, so that a recur
 * costs the same however many are undelivered. A sender that still sees the old
 * one, or a subscription of it, puts them where the new one reads.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"

#include "base/arg.h"
#include "base/clock.h"
#include "base/errors.h"
#include "base/jb.h"
#include "base/spi.h"
#include "base/uuid.h"
#include "instances/delete.h"
#include "instances/document.h"
#include "instances/event.h"
#include "memory/wake.h"
#include "turn/call.h"
#include "turn/context.h"
#include "turn/hooks.h"
#include "turn/recur.h"
#include "turn/replay.h"

PG_FUNCTION_INFO_V1(romancy_recur);

/*
 * The successor: what is the old one's own stays the same. An execution timeout
 * counts for each generation anew, with the length it had.
 */
static RomStatement insert_successor = {
	"INSERT INTO romancy.t_instance (instance_id, created_at, updated_at, wake_at, deadline,"
	" def_id, priority, flags, depth, status, owner, workflow, parent_id, parent_step,"
	" parent_close, continued_from, mailbox, idempotency_key, input, labels, result_expires,"
	" namespace, scheduled_at)"
	" SELECT $2, $3, $3, $3, $3 + (deadline - created_at), def_id, priority, $4, depth,"
	" 'pending', owner, workflow, parent_id, parent_step, parent_close, instance_id,"
	" coalesce(mailbox, instance_id), idempotency_key, $5, $6, result_expires, namespace, scheduled_at"
	" FROM romancy.t_instance WHERE instance_id = $1",
	6, {UUIDOID, UUIDOID, TIMESTAMPTZOID, INT4OID, JSONBOID, JSONBOID}
};

static RomStatement archive_history = {
	"WITH gone AS (DELETE FROM romancy.t_history WHERE instance_id = $1"
	" RETURNING instance_id, last_seq, events)"
	" INSERT INTO romancy.t_history_archive (instance_id, last_seq, events)"
	" SELECT instance_id, last_seq, events FROM gone",
	1, {UUIDOID}
};

/* Keys of generations that another one has followed, with their mailbox. */
static RomStatement select_keys = {
	"SELECT k.instance_id, coalesce(i.mailbox, i.instance_id) FROM romancy.t_idempotency k"
	" JOIN romancy.t_instance i ON i.instance_id = k.instance_id"
	" WHERE k.instance_id = ANY ($1) AND i.status = 'recurred'",
	1, {UUIDARRAYOID}
};

static RomStatement select_last = {
	"SELECT instance_id FROM romancy.t_instance WHERE mailbox = $1 AND status <> 'recurred'",
	1, {UUIDOID}
};

static RomStatement keep_last = {
	"SELECT 1 FROM romancy.t_instance WHERE instance_id = $1 FOR KEY SHARE",
	1, {UUIDOID}
};

static RomStatement move_key = {
	"UPDATE romancy.t_idempotency SET instance_id = $2 WHERE instance_id = $1",
	2, {UUIDOID, UUIDOID}
};

/* The last generation, by the mailbox that all have: those between may have been deleted. */
static RomStatement select_live = {
	"SELECT instance_id, owner, priority FROM romancy.t_instance"
	" WHERE mailbox = $1 AND status <> 'recurred' AND wake_at IS NOT NULL",
	1, {UUIDOID}
};

/* flags that go over: what the move hooks move */
#define MOVED_FLAGS (ROM_HAS_SUBSCRIPTIONS | ROM_HAS_GROUPS | ROM_IS_CANVAS | ROM_IS_SCHEDULED)

/* open_step is the id of an activity or child that was spawned and has not ended, or NULL. */
static const char *
open_step(RomTurn *turn)
{
	for (int i = 0; i < turn->replay.program.count; i++)
	{
		RomEvent   *event = turn->replay.program.events[i];

		if ((event->type == ROM_EVENT_ACTIVITY_SCHEDULED ||
			 event->type == ROM_EVENT_CHILD_SCHEDULED) &&
			rom_replay_completion(turn, event->step) == NULL)
			return event->step;
	}
	return NULL;
}

static RomOutcome
recur_execute(RomTurn *turn, RomCall *call, RomEvent *event)
{
	const char *open = open_step(turn);
	RomEvent   *recurred;

	if (open != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_STATE),
				 errmsg("workflow \"%s\" cannot recur while \"%s\" has not ended",
						turn->inst->workflow, open),
				 errhint("Wait for spawned activities and children with romancy.await() first.")));
	recurred = rom_replay_event(turn, ROM_EVENT_WORKFLOW_RECURRED, NULL);
	recurred->input = rom_context_copy_jsonb(turn, call->input);
	rom_replay_append(turn, recurred);
	turn->out.recur_input = call->options ? recurred->input : NULL;
	turn->out.status = ROM_STATUS_RECURRED;
	turn->wait.now = NULL;
	return ROM_OUTCOME_END;
}

const RomPrimitive rom_primitive_recur = {
	.name = "recur",
	.kind = ROM_PRIMITIVE_BLOCKING,
	.events = {ROM_EVENT_WORKFLOW_RECURRED},
	.execute = recur_execute,
};

/*
 * romancy.recur(input jsonb) -> jsonb (never returns)
 *
 * In a workflow: ends this instance as recurred and continues in a new one with
 * input, which may be null. Errors: RM004 outside a handler, RM010 while spawned
 * activities or children have not ended, RM011 input too large.
 */
Datum
romancy_recur(PG_FUNCTION_ARGS)
{
	Jsonb	   *input = rom_arg_jsonb_opt(fcinfo, 0);
	RomCall		call = {0};

	(void) rom_context_require("recur()");
	call.primitive = &rom_primitive_recur;
	call.step_base = "recur";
	call.input = input ? input : rom_jb_null_document();
	call.options = input ? unconstify(RomPrimitive *, &rom_primitive_recur) : NULL; /* only whether there is
																					 * one */
	(void) rom_call_step(&call);
	PG_RETURN_NULL();			/* not reached: the step ends the instance */
}

void
rom_recur_save(RomTurn *turn)
{
	RomInstance *inst = turn->inst;
	Jsonb	   *labels = turn->out.labels ? turn->out.labels : inst->labels;
	pg_uuid_t	successor;
	Datum		values[6];
	bool		nulls[6] = {false};

	rom_uuid_v7(&successor);
	values[0] = UUIDPGetDatum(&inst->id);
	values[1] = UUIDPGetDatum(&successor);
	values[2] = TimestampTzGetDatum(rom_now());
	values[3] = Int32GetDatum(inst->flags & MOVED_FLAGS);
	values[4] = PointerGetDatum(turn->out.recur_input);
	nulls[4] = turn->out.recur_input == NULL;
	values[5] = PointerGetDatum(labels);
	nulls[5] = labels == NULL;
	if (rom_execute(&insert_successor, values, nulls, 0) != 1)
		elog(ERROR, "could not start the successor of an instance");
	rom_document_note_input(&successor, turn->out.recur_input);
	rom_execute(&archive_history, values, NULL, 0);
	rom_hooks_move(turn, &successor);
	rom_wake_ready(&successor, turn->owner, inst->priority);
}

/*
 * last_of finds the last generation of a chain and keeps others from deleting it before we commit; false when there is
 * none left. It may recur meanwhile: then it is deleted later, and its mailbox continues.
 */
static bool
last_of(const pg_uuid_t *mailbox, pg_uuid_t *last)
{
	for (;;)
	{
		Datum		values[1] = {UUIDPGetDatum(mailbox)};
		RomRowSet	set;
		bool		isnull;

		CHECK_FOR_INTERRUPTS();
		if (rom_execute_rows(&set, &select_last, values, NULL, 1) == 0)
			return false;
		*last = *DatumGetUUIDP(rom_value(&set, 0, 1, &isnull));
		values[0] = UUIDPGetDatum(last);
		if (rom_execute(&keep_last, values, NULL, 1) > 0)
			return true;
	}
}

/*
 * keep_keys is called before instances are deleted, with their ids. The idempotency key of a generation
 * goes to the last one: while a chain lives, so does its key. Not to the next: others may be deleting that.
 */
static void
keep_keys(Datum ids)
{
	RomRowSet	set;
	uint64		rows = rom_execute_rows(&set, &select_keys, &ids, NULL, 0);

	for (uint64 i = 0; i < rows; i++)
	{
		bool		isnull;
		pg_uuid_t	last;
		Datum		values[2];

		values[0] = rom_value(&set, i, 1, &isnull);
		if (!last_of(DatumGetUUIDP(rom_value(&set, i, 2, &isnull)), &last))
			continue;
		values[1] = UUIDPGetDatum(&last);
		rom_execute(&move_key, values, NULL, 0);
	}
}

void
rom_recur_init(void)
{
	rom_delete_on(keep_keys);
}

void
rom_recur_forward(RomTurn *turn)
{
	MemoryContext old = MemoryContextSwitchTo(turn->cxt);
	Datum		values[1] = {UUIDPGetDatum(&turn->inst->mailbox)};
	RomEngine	engine;
	RomRowSet	set;

	rom_engine_begin(&engine);
	if (rom_execute_rows(&set, &select_live, values, NULL, 1) == 1)
	{
		bool		isnull;
		pg_uuid_t	id = *DatumGetUUIDP(rom_value(&set, 0, 1, &isnull));
		Oid			owner = get_role_oid(rom_value_text(&set, 0, 2, turn->cxt), true);
		int32		priority = DatumGetInt32(rom_value(&set, 0, 3, &isnull));

		for (int i = 0; i < turn->wait.ninbox; i++)
		{
			RomInboxItem *item = &turn->wait.inbox[i];

			if (item->kind > ROM_INBOX_RESUME)
				continue;
			rom_inbox_insert(&id, item->kind, NULL, NULL, NULL, item->detail);
			if (item->kind == ROM_INBOX_CANCEL || item->kind == ROM_INBOX_TERMINATE)
				rom_wake_cancel(&id);
		}

		/*
		 * also without a request: a sender whose transaction overlapped its
		 * end may have woken it for a message
		 */
		rom_wake_ready(&id, owner, priority);
	}
	rom_engine_end(&engine);
	MemoryContextSwitchTo(old);
}
