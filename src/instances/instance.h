/*-------------------------------------------------------------------------
 *
 * instance.h
 *		A workflow instance, as its turn sees it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_INSTANCE_H
#define ROM_INSTANCE_H

#include "storage/itemptr.h"
#include "utils/array.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

/* In the order of type romancy.t_status. Final ones come last. */
typedef enum RomStatus
{
	ROM_STATUS_PENDING,			/* -> running, waiting_*, paused, final */
	ROM_STATUS_RUNNING,			/* yielded its turn; -> any but pending */
	ROM_STATUS_WAITING_TIMER,	/* -> running, waiting_*, paused,
								 * compensating, final */
	ROM_STATUS_WAITING_MESSAGE,
	ROM_STATUS_WAITING_ACTIVITY,
	ROM_STATUS_WAITING_WORKFLOW,
	ROM_STATUS_PAUSED,			/* -> resume_status, compensating or cancelled */
	ROM_STATUS_COMPENSATING,	/* -> failed, cancelled */
	ROM_STATUS_COMPLETED,
	ROM_STATUS_FAILED,			/* -> pending (retry_workflow) */
	ROM_STATUS_CANCELLED,
	ROM_STATUS_RECURRED
} RomStatus;

#define ROM_STATUS_IS_FINAL(status) ((status) >= ROM_STATUS_COMPLETED)

/* flags of t_instance: kinds of rows that a terminal transition has to tidy. For SQL: ROM_SQL_IS_CANVAS. */
#define ROM_SQL_HAS_COMPENSATED	"128"
#define ROM_SQL_IS_CANVAS		"256"
#define ROM_HAS_CHILDREN		0x0001
#define ROM_HAS_TASKS			0x0002
#define ROM_HAS_SUBSCRIPTIONS	0x0004
#define ROM_HAS_GROUPS			0x0008
#define ROM_HAS_COMPENSATIONS	0x0010
#define ROM_HAS_COMPENSATED		0x0080	/* a compensation ran */
#define ROM_IS_CANVAS			0x0100
#define ROM_IS_SCHEDULED		0x0200	/* a run of a schedule */

/* Letters for rom_waiter_key(): sessions wait for the end of an instance, or for its progress. */
#define ROM_INSTANCE_END_KEY		'i'
#define ROM_INSTANCE_PROGRESS_KEY	'p'

/* The function that stands in the handler's place for these. */
#define ROM_CANVAS_HANDLER "romancy.t_canvas"

typedef struct RomInstance
{
	pg_uuid_t	id;
	int32		def_id;
	int32		namespace;
	int32		priority;
	RomStatus	status;
	RomStatus	resume_status;	/* while paused */
	int32		flags;
	int32		settings;		/* number of the settings fixed for it
								 * (turn/settings.h); 0: not yet */
	int16		crashes;
	int16		depth;
	char	   *owner_name;
	char	   *workflow;		/* name */
	Jsonb	   *input;			/* or NULL */
	Jsonb	   *wait;			/* what it was blocked on, or NULL */
	Jsonb	   *labels;
	Jsonb	   *error;
	Jsonb	   *progress;
	int64		last_seq;
	int64		body_hash;		/* 0: not recorded yet */
	bool		has_parent;
	pg_uuid_t	parent_id;
	char	   *parent_step;
	char	   *parent_close;
	TimestampTz created_at;
	TimestampTz started_at;		/* 0: not yet */
	TimestampTz wake_at;		/* DT_NOEND: nothing due */
	TimestampTz deadline;		/* execution timeout; DT_NOEND: none */
	bool		has_continued_from;
	pg_uuid_t	continued_from;
	pg_uuid_t	mailbox;		/* where its messages are: its own id, or that
								 * of the first generation */
	const struct RomStart *unwritten;	/* its row is not there yet
										 * (rom_start_write()); else NULL */
} RomInstance;

extern const char *rom_instance_status_name(RomStatus status);

/* By name; -1 when there is none. */
extern int	rom_instance_status_from_name(const char *name);

/* Oid of romancy.t_status's label for status (enum datum). */
extern Datum rom_instance_status_datum(RomStatus status);
extern RomStatus rom_instance_status_from_datum(Datum value);

/* May the current user steer or read an instance of this owner? (membership in the owner role; superuser always; monitor: reading only) */
extern bool rom_instance_may_steer(const char *owner);
extern bool rom_instance_may_read(const char *owner);

/* The same for another role: steer, or else read. */
extern bool rom_instance_may_access(const char *owner, Oid role, bool steer);

/* The names of all roles for which that is so, a text[]; NULL: of all roles, and of those that were dropped. */
extern ArrayType *rom_instance_owners(Oid role, bool steer);

#endif							/* ROM_INSTANCE_H */
