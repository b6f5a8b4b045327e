/*-------------------------------------------------------------------------
 *
 * running.c
 *		Running tasks of queues, for the ledger.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "tasks/accounts.h"
#include "tasks/ledger.h"
#include "tasks/notify.h"
#include "tasks/running.h"

void
rom_running_ended(const char *queue, const char *activity, const char *limit_key)
{
	uint64		keys[ROM_LEDGER_ACCOUNTS];
	int			n = 2;
	int32		namespace;

	keys[ROM_RUNNING_QUEUE] = rom_ledger_key(ROM_ACCOUNT_QUEUE, queue, NULL);
	keys[ROM_RUNNING_ACTIVITY] = rom_ledger_key(ROM_ACCOUNT_ACTIVITY, queue, activity);
	if (limit_key != NULL)
		keys[n++] = rom_ledger_key(ROM_ACCOUNT_KEY, queue, limit_key);
	(void) rom_notify_queue_name(queue, &namespace);
	if (rom_ledger_end(keys, n, namespace, rom_notify_key(queue)))
		rom_notify_ask(queue);
}
