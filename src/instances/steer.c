/*-------------------------------------------------------------------------
 *
 * steer.c
 *		cancel, terminate, pause, resume and retry of instances.
 *
 * The first four are requests: a row in the instance's inbox and a wake-up. They
 * never touch the instance's row, so they do not wait for a running turn; they
 * return the state that the caller's snapshot shows. A failed instance has no
 * turns: retry_workflow changes its row itself.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "base/arg.h"
#include "base/clock.h"
#include "base/errors.h"
#include "base/jb.h"
#include "base/spi.h"
#include "base/uuid.h"
#include "instances/history.h"
#include "instances/steer.h"
#include "memory/wake.h"

static RomStatement select_head = {
	"SELECT status, owner, priority, flags, last_seq"
	" FROM romancy.t_instance WHERE instance_id = $1",
	1, {UUIDOID}
};

/*
 * The status, and the last request to pause or resume that no turn has applied
 * yet (kinds: inbox.h): of one snapshot, since the turn that applies the request
 * changes the one and deletes the other.
 */
static RomStatement select_pause = {
	"SELECT i.status, (SELECT b.kind FROM romancy.t_inbox b"
	" WHERE b.instance_id = i.instance_id AND b.kind IN (" ROM_SQL_INBOX_PAUSE ", " ROM_SQL_INBOX_RESUME ") ORDER BY b.id DESC LIMIT 1)"
	" FROM romancy.t_instance i WHERE i.instance_id = $1",
	1, {UUIDOID}
};

static RomStatement lock_failed = {
	"SELECT flags, last_seq FROM romancy.t_instance"
	" WHERE instance_id = $1 AND status = 'failed' FOR UPDATE SKIP LOCKED",
	1, {UUIDOID}
};

/*
 * An execution timeout begins anew, with the length that it had.
 */
static RomStatement update_retried = {
	"UPDATE romancy.t_instance SET status = 'pending', error = NULL, events = NULL,"
	" finished_at = NULL, wait = NULL, resume_status = NULL, crashes = 0,"
	" wake_at = $2, last_seq = $3, updated_at = clock_timestamp(),"
	" deadline = $2 + (deadline - coalesce(started_at, created_at))"
	" WHERE instance_id = $1",
	3, {UUIDOID, TIMESTAMPTZOID, INT8OID}
};

void
rom_steer_missing(const pg_uuid_t *id)
{
	ereport(ERROR,
			(errcode(ERRCODE_ROM_NO_INSTANCE),
			 errmsg("workflow instance \"%s\" does not exist",
					rom_uuid_text(id))));
}

void
rom_steer_head(const pg_uuid_t *id, bool steer, RomInstanceHead *head)
{
	Datum		values[1] = {UUIDPGetDatum(id)};
	MemoryContext cxt = CurrentMemoryContext;
	RomEngine	engine;
	bool		isnull;
	bool		found;
	RomRowSet	set;

	rom_engine_begin(&engine);
	found = rom_execute_rows(&set, &select_head, values, NULL, 1) == 1;
	if (found)
	{
		head->status = rom_instance_status_from_datum(rom_value(&set, 0, 1, &isnull));
		head->owner_name = rom_value_text(&set, 0, 2, cxt);
		head->priority = DatumGetInt32(rom_value(&set, 0, 3, &isnull));
		head->flags = DatumGetInt32(rom_value(&set, 0, 4, &isnull));
		head->last_seq = DatumGetInt64(rom_value(&set, 0, 5, &isnull));
	}
	rom_engine_end(&engine);
	/* another role's looks like none at all */
	if (!found || !(steer ? rom_instance_may_steer(head->owner_name) :
					rom_instance_may_read(head->owner_name)))
		rom_steer_missing(id);
	head->owner = get_role_oid(head->owner_name, true);
}

Jsonb *
rom_steer_detail(const char *reason)
{
	RomJb		jb;

	rom_jb_begin(&jb);
	rom_jb_text(&jb, "reason", reason);
	rom_jb_text(&jb, "by", GetUserNameFromId(GetUserId(), false));
	rom_jb_time(&jb, "at", rom_now());
	return rom_jb_end(&jb);
}

bool
rom_steer_fits(const pg_uuid_t *id, RomInboxKind kind, RomStatus status)
{
	Datum		values[1] = {UUIDPGetDatum(id)};
	bool		isnull;
	bool		paused;
	int			request;
	RomRowSet	set;

	if (ROM_STATUS_IS_FINAL(status))
		return false;
	if (kind != ROM_INBOX_PAUSE && kind != ROM_INBOX_RESUME)
		return true;
	if (rom_execute_rows(&set, &select_pause, values, NULL, 1) == 0)
		return false;
	status = rom_instance_status_from_datum(rom_value(&set, 0, 1, &isnull));
	request = DatumGetInt16(rom_value(&set, 0, 2, &isnull));
	paused = isnull ? status == ROM_STATUS_PAUSED : request == ROM_INBOX_PAUSE;
	if (kind == ROM_INBOX_RESUME)
		return paused && !ROM_STATUS_IS_FINAL(status);
	return !paused && !ROM_STATUS_IS_FINAL(status) && status != ROM_STATUS_COMPENSATING;
}

void
rom_steer_wake(const pg_uuid_t *id, const RomInstanceHead *head, RomInboxKind kind)
{
	if (OidIsValid(head->owner))
		rom_wake_ready(id, head->owner, head->priority);
	if (kind == ROM_INBOX_CANCEL || kind == ROM_INBOX_TERMINATE)
		rom_wake_cancel(id);
}

bool
rom_steer_request(const pg_uuid_t *id, RomInboxKind kind, const char *reason)
{
	RomInstanceHead head;
	RomEngine	engine;
	Jsonb	   *detail = rom_steer_detail(reason);
	bool		result;

	rom_arg_check_payload(detail, "reason");
	rom_steer_head(id, true, &head);
	rom_engine_begin(&engine);
	result = rom_steer_fits(id, kind, head.status);
	if (result)
		rom_inbox_insert(id, kind, NULL, NULL, NULL, detail);
	rom_engine_end(&engine);
	if (result)
		rom_steer_wake(id, &head, kind);
	return result;
}

bool
rom_steer_retry(const pg_uuid_t *id, Jsonb *detail, int32 *flags)
{
	Datum		values[3] = {UUIDPGetDatum(id)};
	RomEvent	event = {0};
	RomEventList list = {0};
	int64		last_seq;
	bool		isnull;
	RomRowSet	set;

	if (rom_execute_rows(&set, &lock_failed, values, NULL, 1) == 0)
		return false;
	*flags = DatumGetInt32(rom_value(&set, 0, 1, &isnull));
	last_seq = DatumGetInt64(rom_value(&set, 0, 2, &isnull));
	rom_execute_free(&set);
	if (*flags & ROM_HAS_COMPENSATED)
		return false;

	rom_history_move(id);
	event.type = ROM_EVENT_WORKFLOW_RETRIED;
	event.detail = detail;
	event.at = rom_now();
	rom_event_list_add(&list, &event, CurrentMemoryContext);
	last_seq = rom_history_append(id, &list, 0, last_seq);
	values[1] = TimestampTzGetDatum(event.at);
	values[2] = Int64GetDatum(last_seq);
	rom_execute(&update_retried, values, NULL, 0);
	return true;
}

Jsonb *
rom_steer_retry_detail(void)
{
	RomJb		jb;

	rom_jb_begin(&jb);
	rom_jb_text(&jb, "by", GetUserNameFromId(GetUserId(), false));
	rom_jb_time(&jb, "at", rom_now());
	return rom_jb_end(&jb);
}
