/*-------------------------------------------------------------------------
 *
 * guc.h
 *		Settings, alphabetically. Durations are in milliseconds, unless seconds is said.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_GUC_H
#define ROM_GUC_H

#include "utils/guc.h"

extern int	rom_guc_activity_timeout_interval;
extern int	rom_guc_channel_cleanup_interval;
extern char *rom_guc_databases;
extern char *rom_guc_default_retry;
extern bool rom_guc_enabled;
extern int	rom_guc_evaluation_timeout;
extern int	rom_guc_executors;
extern int	rom_guc_lock_cleanup_interval;
extern int	rom_guc_lock_timeout;
extern bool rom_guc_log_failures;
extern int	rom_guc_max_concurrent_resumptions;
extern int	rom_guc_max_history_events;
extern int	rom_guc_max_payload_size;	/* bytes */
extern int	rom_guc_max_workers;
extern int	rom_guc_message_check_interval;
extern int	rom_guc_message_retention;	/* seconds; 0: off */
extern int	rom_guc_message_timeout_interval;
extern int	rom_guc_outbox_batch_size;
extern int	rom_guc_outbox_interval;
extern int	rom_guc_outbox_max_age; /* seconds; 0: off */
extern int	rom_guc_outbox_max_attempts;
extern char *rom_guc_namespace;
extern char *rom_guc_outbox_url;
extern int	rom_guc_result_expires; /* seconds; 0: off */
extern int	rom_guc_queue_notify_interval;
extern int	rom_guc_resumption_interval;
extern int	rom_guc_retention;	/* seconds; 0: off */
extern int	rom_guc_retention_interval;
extern int	rom_guc_retry_backoff_max;
extern int	rom_guc_schedule_interval;
extern int	rom_guc_schedulers;
extern double rom_guc_sweep_jitter;
extern int	rom_guc_sweep_batch_size;
extern int	rom_guc_timer_interval;
extern int	rom_guc_turn_mode;	/* RomTurnMode of turn/turn.h */
extern int	rom_guc_worker_idle_timeout;	/* 0: never */

/* Defines all settings. What retry policies and namespaces are, is known a floor above: their hooks are handed in. */
extern void rom_guc_init(GucStringCheckHook check_default_retry, GucStringAssignHook assign_namespace);

#endif							/* ROM_GUC_H */
