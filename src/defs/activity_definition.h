/*-------------------------------------------------------------------------
 *
 * activity_definition.h
 *		More facts about activities, and the hooks of other rooms for their definitions.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_ACTIVITY_DEFINITION_H
#define ROM_ACTIVITY_DEFINITION_H

#include "datatype/timestamp.h"
#include "utils/jsonb.h"

/*
 * Registers a question before an activity is dropped: does work of that room need it (a task in a
 * queue)? Called in an engine scope. Registered once, from _PG_init.
 */
typedef bool (*RomActivityInUse) (int32 namespace, const char *name);
extern void rom_activity_definition_on_drop(RomActivityInUse in_use);

/* Told, in an engine scope, of the queues in which an activity is now or was before. Registered once, from _PG_init. */
extern void rom_activity_definition_on_defined(void (*defined) (int32 namespace, const char *queue));

/* Reads a rate limit ("100/m"; s, m, h): a number in a number of microseconds; false when text is no rate limit. */
extern bool rom_activity_definition_rate(const char *text, int *count, int64 *period);

/* Does work need this activity, so that it must not be dropped? Engine scope needed. */
extern bool rom_activity_definition_in_use(int32 namespace, const char *name);

/* Tells of a queue in which an activity is now or was before. Engine scope needed. */
extern void rom_activity_definition_tell(int32 namespace, const char *queue);

/* The queues of requests that the HTTP worker sends: of activities that are defined so, and of romancy.http(). Users' queues do not begin with "@". */
#define ROM_QUEUE_HTTP "@http"
#define ROM_QUEUE_HTTP_CALL "@call"

/* The name of the activity of a request of romancy.http(): no definition can have it. */
#define ROM_ACTIVITY_HTTP_CALL "@http"

/*
 * Raises an error where http is no request that the current user may define as activity name. The room http registers how; until
 * then, RM010.
 */
typedef void (*RomHttpCheck) (const char *name, Jsonb *http);
extern void rom_activity_definition_on_http(RomHttpCheck check);
extern void rom_activity_definition_check_http(const char *name, Jsonb *http);

#endif							/* ROM_ACTIVITY_DEFINITION_H */
