/*-------------------------------------------------------------------------
 *
 * notify.h
 *		NOTIFY for queues: told by a worker that there is something to fetch.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_NOTIFY_H
#define ROM_NOTIFY_H

#include "tasks/state.h"

/*
 * After this transaction's commit a worker is to notify the queue's channel, if it has one, and the HTTP worker is to look, if it is served by a URL.
 * queue: as stored in t_task. Engine scope needed; executes a statement of its own.
 */
extern void rom_notify_ask(const char *queue);

/* A channel or a URL was set: this transaction has to read them again. */
extern void rom_notify_forget(void);

/* Registers the sweep; called once from _PG_init. */
extern void rom_notify_init(void);

/* Key for which the pollers of a queue wait. */
extern uint64 rom_notify_key(const char *queue);

/*
 * A queue as it is stored in t_task and t_queue, and known in shared memory: "namespace/name", in the current
 * context (workflow tasks: behind ROM_QUEUE_WORKFLOWS). And back: the name, within queue, and its namespace.
 */
extern char *rom_notify_queue_stored(int32 namespace, const char *name);
extern const char *rom_notify_queue_name(const char *queue, int32 *namespace);

/* Limits of the queue or of its activities have changed: at this transaction's commit all that wait look again. Engine scope needed. */
extern void rom_notify_changed(const char *queue);

/* There is one task more to take (at this transaction's commit) in the queue, as stored in t_task. Engine scope needed. */
extern void rom_notify_ready(const char *queue);

/* Is it a queue, as stored in t_task, whose tasks the HTTP worker takes? */
extern bool rom_notify_queue_internal(const char *queue);

/* After this transaction's commit the HTTP worker of the database is to look at something: ROM_HTTP_... of memory/roster.h. */
extern void rom_notify_http(uint32 what);

/* A task under way may not be wanted any more: if it is a request, the HTTP worker looks. */
extern void rom_notify_unwanted(const RomTask *task);

#endif							/* ROM_NOTIFY_H */
