/*-------------------------------------------------------------------------
 *
 * define.h
 *		Defining and dropping, and what others have to say about that.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_DEFINE_H
#define ROM_DEFINE_H

#include "datatype/timestamp.h"

/*
 * Asked before an activity is dropped: does work of this floor need it (a task
 * in a queue)? Called in an engine scope. Registered once, from _PG_init.
 */
typedef bool (*RomActivityInUse) (const char *name);
extern void rom_activity_on_drop(RomActivityInUse in_use);

/* Told, in an engine scope, of the queues in which an activity is now or was before. Registered once, from _PG_init. */
extern void rom_activity_on_defined(void (*defined) (const char *queue));

/* Reads a rate limit ("100/m"; s, m, h): so many in so many microseconds; false when text is none. */
extern bool rom_rate_parse(const char *text, int *count, int64 *period);

/* Raises RM004 in a handler: function (without schema) must not be called there. */
extern void rom_refuse_in_handler(const char *function);

#endif							/* ROM_DEFINE_H */
