/*
 * pg_dump keeps every table, so that a restored database goes on where
 * the dump was. (test/t/033_dump_restore.pl finds a table that is missing here.)
 */
SELECT pg_catalog.pg_extension_config_dump('romancy.t_control', '');
SELECT pg_catalog.pg_extension_config_dump('romancy.t_namespace', '');
SELECT pg_catalog.pg_extension_config_dump('romancy.t_namespace_namespace_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('romancy.t_grant', '');
SELECT pg_catalog.pg_extension_config_dump('romancy.t_workflow', '');
SELECT pg_catalog.pg_extension_config_dump('romancy.t_workflow_def_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('romancy.t_activity', '');
SELECT pg_catalog.pg_extension_config_dump('romancy.t_settings', '');
SELECT pg_catalog.pg_extension_config_dump('romancy.t_settings_settings_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('romancy.t_instance', '');
SELECT pg_catalog.pg_extension_config_dump('romancy.t_idempotency', '');
SELECT pg_catalog.pg_extension_config_dump('romancy.t_history', '');
SELECT pg_catalog.pg_extension_config_dump('romancy.t_history_archive', '');
SELECT pg_catalog.pg_extension_config_dump('romancy.t_document', '');
SELECT pg_catalog.pg_extension_config_dump('romancy.t_inbox', '');
SELECT pg_catalog.pg_extension_config_dump('romancy.t_inbox_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('romancy.t_value', '');
SELECT pg_catalog.pg_extension_config_dump('romancy.t_channel', '');
SELECT pg_catalog.pg_extension_config_dump('romancy.t_subscription', '');
SELECT pg_catalog.pg_extension_config_dump('romancy.t_message', '');
SELECT pg_catalog.pg_extension_config_dump('romancy.t_message_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('romancy.t_delivery', '');
SELECT pg_catalog.pg_extension_config_dump('romancy.t_received_event', '');
SELECT pg_catalog.pg_extension_config_dump('romancy.t_group', '');
SELECT pg_catalog.pg_extension_config_dump('romancy.t_task', '');
SELECT pg_catalog.pg_extension_config_dump('romancy.t_queue', '');
SELECT pg_catalog.pg_extension_config_dump('romancy.t_bucket', '');
SELECT pg_catalog.pg_extension_config_dump('romancy.t_bucket_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('romancy.t_canvas_join', '');
SELECT pg_catalog.pg_extension_config_dump('romancy.t_canvas_chain', '');
SELECT pg_catalog.pg_extension_config_dump('romancy.t_canvas_result', '');
SELECT pg_catalog.pg_extension_config_dump('romancy.t_destination', '');
SELECT pg_catalog.pg_extension_config_dump('romancy.t_destination_destination_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('romancy.t_outbox', '');
SELECT pg_catalog.pg_extension_config_dump('romancy.t_outbox_outbox_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('romancy.t_schedule', '');
SELECT pg_catalog.pg_extension_config_dump('romancy.t_schedule_run', '');
SELECT pg_catalog.pg_extension_config_dump('romancy.t_schedule_end', '');
SELECT pg_catalog.pg_extension_config_dump('romancy.t_schedule_end_end_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('romancy.t_http_rule', '');
/* a secret is in no dump: set it again after a restore */
SELECT pg_catalog.pg_extension_config_dump('romancy.t_secret', 'WHERE false');
SELECT pg_catalog.pg_extension_config_dump('romancy.t_destination_state', 'WHERE false');
/* what this server has done: a restored database does it anew, perhaps before the dump's rows come */
SELECT pg_catalog.pg_extension_config_dump('romancy.t_schedule_zones', 'WHERE false');
