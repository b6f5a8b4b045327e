/*-------------------------------------------------------------------------
 *
 * running.h
 *		Running tasks of queues, for the ledger.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_RUNNING_H
#define ROM_RUNNING_H

/* The accounts of a task in a queue, for rom_ledger_claim() and _end(), by their place. */
#define ROM_RUNNING_QUEUE		0
#define ROM_RUNNING_ACTIVITY	1
#define ROM_RUNNING_KEY			2

/* A task of a queue that is RUNNING in its row has ended. limit_key: or NULL. Engine scope needed. */
extern void rom_running_ended(const char *queue, const char *activity, const char *limit_key);

#endif							/* ROM_RUNNING_H */
