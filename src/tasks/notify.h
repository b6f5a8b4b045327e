/*-------------------------------------------------------------------------
 *
 * notify.h
 *		NOTIFY for queues: told by a worker that there is something to fetch.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_NOTIFY_H
#define ROM_NOTIFY_H

/*
 * After this transaction's commit a worker is to notify the queue's channel, if it has one.
 * queue: as stored in t_task. Engine scope needed; executes a statement of its own.
 */
extern void rom_notify_ask(const char *queue);

/* What this transaction knows of channels is to be read again: one was set. */
extern void rom_notify_forget(void);

/* Registers the sweep; called once from _PG_init. */
extern void rom_notify_init(void);

#endif							/* ROM_NOTIFY_H */
