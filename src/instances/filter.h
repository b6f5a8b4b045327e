/*-------------------------------------------------------------------------
 *
 * filter.h
 *		Filters over instances: list_instances, cancel_workflows,
 *		retry_workflows.
 *
 * The statements are fixed texts; the values of a filter are parameters. There
 * is one text for each status that an index serves, because an index with a
 * WHERE clause is used only where the status is a constant.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_FILTER_H
#define ROM_FILTER_H

#include "base/spi.h"
#include "instances/instance.h"

/*
 * Condition on t_instance i of a page of a filter's rows, and its order. A turn's row says
 * what the instance was before; $12 are those that run one now, which count as running.
 * created_before is part of the position ($1, $2): a condition of its own would
 * have the index scan start there, and read all pages before this one again.
 */
#define ROM_FILTER_WHERE(status_condition) \
	" WHERE (i.created_at, i.instance_id) < ($1, $2)" \
	" AND i.created_at >= $3" \
	" AND " status_condition \
	" AND ($4 IS NULL OR CASE WHEN i.instance_id = ANY ($12)" \
	" AND i.status IN (" ROM_FILTER_TURNS ") THEN 'running' ELSE i.status END" \
	" = ANY ($4::romancy.t_status[]))" \
	" AND ($5 IS NULL OR i.workflow = $5)" \
	" AND ($6 IS NULL OR strpos(lower(i.workflow), lower($6)) > 0" \
	" OR strpos(i.instance_id::text, lower($6)) > 0)" \
	" AND ($7 IS NULL OR i.labels @> $7)" \
	" AND ($8 IS NULL OR NOT EXISTS (SELECT FROM jsonb_each($8) f" \
	" WHERE i.input #> string_to_array(f.key, '.') IS DISTINCT FROM f.value))" \
	" AND romancy.t_may_access(i.owner, $9, $10)" \
	" AND ($13 IS NULL OR i.owner = ANY ($13))" \
	" ORDER BY i.created_at DESC, i.instance_id DESC LIMIT $11"

#define ROM_FILTER_NARGS 13
#define ROM_FILTER_ARGTYPES \
	{TIMESTAMPTZOID, UUIDOID, TIMESTAMPTZOID, TEXTARRAYOID, TEXTOID, TEXTOID, \
	JSONBOID, JSONBOID, OIDOID, BOOLOID, INT8OID, UUIDARRAYOID, TEXTARRAYOID}

/* The statuses that romancy.t_shown_status() shows as running while a turn is under way. */
#define ROM_FILTER_TURNS \
	"'pending', 'running', 'waiting_for_timer', 'waiting_for_message'," \
	" 'waiting_for_activity', 'waiting_for_workflow'"

/* As index t_instance_status has it. */
#define ROM_FILTER_NAMED "romancy.t_status_name(i.status) = "

/* Conditions that stand for a status: one of these and no turn, or a turn. */
#define ROM_FILTER_IDLE(status_condition) \
	status_condition " AND i.instance_id <> ALL ($12)"
#define ROM_FILTER_RUNNING \
	"(" ROM_FILTER_NAMED "'running'" \
	" OR i.instance_id = ANY ($12) AND i.status IN (" ROM_FILTER_TURNS "))"

/* A statement for each status, in the order of RomStatus, one for any, and one by labels. head: all before WHERE. */
#define ROM_FILTER_STATEMENT(head, condition) \
	{head ROM_FILTER_WHERE(condition), ROM_FILTER_NARGS, ROM_FILTER_ARGTYPES}
#define ROM_FILTER_STATEMENTS(head) { \
	ROM_FILTER_STATEMENT(head, ROM_FILTER_IDLE("i.status = 'pending' AND i.wake_at IS NOT NULL")), \
	ROM_FILTER_STATEMENT(head, ROM_FILTER_RUNNING), \
	ROM_FILTER_STATEMENT(head, ROM_FILTER_IDLE(ROM_FILTER_NAMED "'waiting_for_timer'")), \
	ROM_FILTER_STATEMENT(head, ROM_FILTER_IDLE(ROM_FILTER_NAMED "'waiting_for_message'")), \
	ROM_FILTER_STATEMENT(head, ROM_FILTER_IDLE(ROM_FILTER_NAMED "'waiting_for_activity'")), \
	ROM_FILTER_STATEMENT(head, ROM_FILTER_IDLE(ROM_FILTER_NAMED "'waiting_for_workflow'")), \
	ROM_FILTER_STATEMENT(head, ROM_FILTER_NAMED "'paused'"), \
	ROM_FILTER_STATEMENT(head, ROM_FILTER_NAMED "'compensating'"), \
	ROM_FILTER_STATEMENT(head, "i.status = 'completed'"), \
	ROM_FILTER_STATEMENT(head, ROM_FILTER_NAMED "'failed'"), \
	ROM_FILTER_STATEMENT(head, ROM_FILTER_NAMED "'cancelled'"), \
	ROM_FILTER_STATEMENT(head, ROM_FILTER_NAMED "'recurred'"), \
	ROM_FILTER_STATEMENT(head, "true"), \
	ROM_FILTER_STATEMENT(head, "i.labels @> $7") \
}
#define ROM_FILTER_NOW 1
#define ROM_FILTER_ANY 12
#define ROM_FILTER_LABELS 13
#define ROM_FILTER_NSTATEMENTS 14

/* The index that romancy.index_labels() makes, by which filters with labels are answered; invalid: there is none. */
#define ROM_FILTER_LABELS_INDEX "t_instance_labels"
extern Oid	rom_filter_labels_index(void);

/* Position in created_at desc, instance_id desc: the row before the page. */
typedef struct RomFilterPos
{
	TimestampTz created_at;
	pg_uuid_t	id;
} RomFilterPos;

typedef struct RomFilter
{
	int			nstatuses;		/* 0: any */
	RomStatus	statuses[ROM_STATUS_RECURRED + 1];
	char	   *workflow;
	char	   *search;
	TimestampTz created_after;	/* inclusive */
	TimestampTz created_before; /* exclusive */
	Jsonb	   *input;			/* dotted path -> value */
	Jsonb	   *labels;
} RomFilter;

/* Reads a filter; RM012 naming what is wrong with it. NULL: no condition. */
extern void rom_filter_parse(Jsonb *json, RomFilter *filter);

/* The position before the filter's first row. */
extern void rom_filter_start(const RomFilter *filter, RomFilterPos *pos);

/*
 * Executes that of ROM_FILTER_NSTATEMENTS statements which fits the filter: at most limit rows
 * after pos, of those that role may read (steer: steer), which are in set. Engine scope needed.
 */
extern uint64 rom_filter_execute(RomRowSet *set, RomStatement *statements,
								 const RomFilter *filter,
								 const RomFilterPos *pos, Oid role,
								 bool steer, int64 limit);

/*
 * The same for all rows, from one snapshot, as a portal to be read by SPI_cursor_fetch: it
 * does not see changes that the caller makes meanwhile. Engine scope needed.
 */
extern Portal rom_filter_open(RomStatement *statements,
							  const RomFilter *filter, Oid role, bool steer);

/* A position as a page token, and back: RM012 when it is none. */
extern char *rom_filter_token(const RomFilterPos *pos);
extern void rom_filter_from_token(const RomFilter *filter, const char *token,
								  RomFilterPos *pos);

#endif							/* ROM_FILTER_H */
