/*-------------------------------------------------------------------------
 *
 * op.c
 *		The table of the commands of romancy.suspend(): one entry for each call of a
 *		handler that takes time, or that the server executes.
 *
 * A new call that handlers can make is added here, in doc/tasks.md and in the libraries
 * (sdk/).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "outside/op.h"

static const RomOp ops[] = {
	{"activity",
		"SELECT romancy.activity($1, $2, $3, $4)",
		"SELECT romancy.spawn($1, $2, $3, $4)", true, "name",
		{ROM_EVENT_ACTIVITY_SCHEDULED, ROM_EVENT_ACTIVITY_COMPLETED, ROM_EVENT_ACTIVITY_FAILED},
	{{"name", ROM_OP_ARG_TEXT, true}, {"input", ROM_OP_ARG_JSONB}, {"id", ROM_OP_ARG_STEP}, {"retry", ROM_OP_ARG_JSONB}}},
	{"child",
		"SELECT romancy.call_workflow($1, $2, $3, coalesce($4, 'cancel'), $5, $6, $7, $8)",
		"SELECT romancy.spawn_workflow($1, $2, $3, coalesce($4, 'cancel'), $5, $6, $7, $8)", true, "name",
		{ROM_EVENT_CHILD_SCHEDULED, ROM_EVENT_CHILD_COMPLETED, ROM_EVENT_CHILD_FAILED},
		{{"name", ROM_OP_ARG_TEXT, true}, {"input", ROM_OP_ARG_JSONB}, {"id", ROM_OP_ARG_STEP}, {"on_parent_close", ROM_OP_ARG_TEXT},
	{"version", ROM_OP_ARG_INT}, {"priority", ROM_OP_ARG_INT}, {"labels", ROM_OP_ARG_JSONB}, {"execution_timeout", ROM_OP_ARG_INTERVAL}}},
	{"http",
		"SELECT romancy.http($1, $2, $3, $4, $5, $6, $7)",
		"SELECT romancy.spawn_http($1, $2, $3, $4, $5, $6, $7)", true, NULL,
		{ROM_EVENT_ACTIVITY_SCHEDULED, ROM_EVENT_ACTIVITY_COMPLETED, ROM_EVENT_ACTIVITY_FAILED},
		{{"method", ROM_OP_ARG_TEXT, true}, {"url", ROM_OP_ARG_TEXT, true}, {"body", ROM_OP_ARG_JSONB}, {"headers", ROM_OP_ARG_JSONB},
	{"timeout", ROM_OP_ARG_INTERVAL}, {"id", ROM_OP_ARG_STEP}, {"retry", ROM_OP_ARG_JSONB}}},
	{"timer",
		"SELECT romancy.sleep_until($1, $2)", NULL, true, NULL,
		{ROM_EVENT_TIMER_SCHEDULED, ROM_EVENT_TIMER_EXPIRED},
	{{"until", ROM_OP_ARG_TIME, true}, {"id", ROM_OP_ARG_STEP}}},
	{"receive",
		"SELECT romancy.receive($1, $2, $3)",
		"SELECT romancy.spawn_receive($1)", true, "channel",
		{ROM_EVENT_RECEIVE_SCHEDULED, ROM_EVENT_MESSAGE_RECEIVED, ROM_EVENT_MESSAGE_TIMEOUT},
	{{"channel", ROM_OP_ARG_TEXT, true}, {"timeout", ROM_OP_ARG_INTERVAL}, {"id", ROM_OP_ARG_STEP}}},
	{"event",
		"SELECT romancy.wait_event($1, $2, $3)", NULL, true, NULL,
		{ROM_EVENT_EVENT_RECEIVED, ROM_EVENT_MESSAGE_RECEIVED, ROM_EVENT_MESSAGE_TIMEOUT},
	{{"type", ROM_OP_ARG_TEXT, true}, {"timeout", ROM_OP_ARG_INTERVAL}, {"id", ROM_OP_ARG_STEP}}},
	{"subscribe",
		"SELECT romancy.subscribe($1, coalesce($2, 'broadcast'))", NULL, false, NULL,
		{ROM_EVENT_SUBSCRIBED},
	{{"channel", ROM_OP_ARG_TEXT, true}, {"mode", ROM_OP_ARG_TEXT}}},
	{"unsubscribe",
		"SELECT romancy.unsubscribe($1)", NULL, false, NULL,
		{ROM_EVENT_UNSUBSCRIBED},
	{{"channel", ROM_OP_ARG_TEXT, true}}},
	{"publish",
		"SELECT romancy.publish($1, $2, $3, $4)", NULL, false, NULL,
		{ROM_EVENT_MESSAGE_PUBLISHED},
	{{"channel", ROM_OP_ARG_TEXT, true}, {"data", ROM_OP_ARG_JSONB}, {"metadata", ROM_OP_ARG_JSONB}, {"data_binary", ROM_OP_ARG_BYTEA}}},
	{"send_to",
		"SELECT romancy.send_to($1, $2, $3, $4, $5)", NULL, false, NULL,
		{ROM_EVENT_MESSAGE_SENT},
		{{"instance_id", ROM_OP_ARG_UUID, true}, {"channel", ROM_OP_ARG_TEXT, true}, {"data", ROM_OP_ARG_JSONB},
	{"metadata", ROM_OP_ARG_JSONB}, {"data_binary", ROM_OP_ARG_BYTEA}}},
	{"raise_event",
		"SELECT romancy.raise_event($1, $2, $3, $4, $5, $10, $6, $7, $8, $9)", NULL, false, NULL,
		{ROM_EVENT_EVENT_RAISED},
		{{"type", ROM_OP_ARG_TEXT, true}, {"source", ROM_OP_ARG_TEXT, true}, {"data", ROM_OP_ARG_JSONB}, {"event_id", ROM_OP_ARG_TEXT},
		{"subject", ROM_OP_ARG_TEXT}, {"datacontenttype", ROM_OP_ARG_TEXT}, {"data_binary", ROM_OP_ARG_BYTEA},
	{"extensions", ROM_OP_ARG_JSONB}, {"instance_id", ROM_OP_ARG_UUID}, {"event_time", ROM_OP_ARG_INSTANT}}},
	{"send_event",
		"SELECT romancy.send_event($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)", NULL, false, NULL,
		{ROM_EVENT_OUTBOX_SENT},
		{{"type", ROM_OP_ARG_TEXT, true}, {"source", ROM_OP_ARG_TEXT, true}, {"data", ROM_OP_ARG_JSONB}, {"event_id", ROM_OP_ARG_TEXT},
		{"subject", ROM_OP_ARG_TEXT}, {"datacontenttype", ROM_OP_ARG_TEXT}, {"data_binary", ROM_OP_ARG_BYTEA},
	{"extensions", ROM_OP_ARG_JSONB}, {"destination", ROM_OP_ARG_TEXT}, {"ordering_key", ROM_OP_ARG_TEXT}}},
	{"start",
		"SELECT romancy.start_workflow($1, $2, $3, $4, $9, coalesce($5, 0), $6, $7, $8)", NULL, false, NULL,
		{ROM_EVENT_WORKFLOW_STARTED},
		{{"name", ROM_OP_ARG_TEXT, true}, {"input", ROM_OP_ARG_JSONB}, {"instance_id", ROM_OP_ARG_UUID},
		{"idempotency_key", ROM_OP_ARG_TEXT}, {"priority", ROM_OP_ARG_INT}, {"labels", ROM_OP_ARG_JSONB}, {"version", ROM_OP_ARG_INT},
	{"execution_timeout", ROM_OP_ARG_INTERVAL}, {"start_at", ROM_OP_ARG_INSTANT}}},
	{"cancel",
		"SELECT romancy.cancel_workflow($1, $2)", NULL, false, NULL,
		{ROM_EVENT_CANCEL_REQUESTED},
	{{"instance_id", ROM_OP_ARG_UUID, true}, {"reason", ROM_OP_ARG_TEXT}}},
	{"join_group",
		"SELECT romancy.join_group($1)", NULL, false, NULL,
		{ROM_EVENT_GROUP_JOINED},
	{{"name", ROM_OP_ARG_TEXT, true}}},
	{"leave_group",
		"SELECT romancy.leave_group($1)", NULL, false, NULL,
		{ROM_EVENT_GROUP_LEFT},
	{{"name", ROM_OP_ARG_TEXT, true}}},
	{"compensate",
		"SELECT romancy.compensate()", NULL, true, NULL,
	{ROM_EVENT_COMPENSATED}},
	{"canvas",
		"SELECT romancy.canvas($1, $2, $3)",
		"SELECT romancy.spawn_canvas($1, $2, $3)", true, NULL,
		{ROM_EVENT_CHILD_SCHEDULED, ROM_EVENT_CHILD_COMPLETED, ROM_EVENT_CHILD_FAILED},
	{{"signature", ROM_OP_ARG_JSONB, true}, {"input", ROM_OP_ARG_JSONB}, {"id", ROM_OP_ARG_STEP}}},
	{"recur",
		"SELECT romancy.recur($1)", NULL, true, NULL,
		{ROM_EVENT_WORKFLOW_RECURRED},
	{{"input", ROM_OP_ARG_JSONB}}},
};

const RomOp rom_op_sleep = {
	"timer",
	"SELECT romancy.sleep($1, $2)", NULL, true, NULL,
	{ROM_EVENT_TIMER_SCHEDULED, ROM_EVENT_TIMER_EXPIRED},
	{{"duration", ROM_OP_ARG_INTERVAL, true}, {"id", ROM_OP_ARG_STEP}}
};

const RomOp *
rom_op_find(const char *name)
{
	for (int i = 0; i < lengthof(ops); i++)
		if (strcmp(ops[i].name, name) == 0)
			return &ops[i];
	return NULL;
}
