-- Tables whose rows come and go are vacuumed early, however large they are, as doc/operations.md says. It would catch such a table with the server's default, which lets a fifth of it be dead.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT no_plan();
SET LOCAL client_min_messages = warning;
SELECT results_eq($$SELECT relname::text COLLATE "default", o.option_value::numeric FROM pg_class c, pg_options_to_table(c.reloptions) o
	WHERE relnamespace = 'romancy'::regnamespace AND o.option_name = 'autovacuum_vacuum_scale_factor' ORDER BY 1$$,
	$$VALUES ('t_bucket', 0.01), ('t_canvas_chain', 0.01), ('t_canvas_join', 0.01), ('t_delivery', 0.01), ('t_inbox', 0.01), ('t_instance', 0.05), ('t_message', 0.01), ('t_outbox', 0.01), ('t_task', 0.01)$$,
	'these tables have a scale of their own');
SELECT is_empty($$SELECT relname FROM pg_class c WHERE relnamespace = 'romancy'::regnamespace AND reloptions::text LIKE '%scale_factor%'
	AND NOT reloptions @> '{autovacuum_vacuum_threshold=2000}'$$, 'and a threshold, so that a small one is not vacuumed all the time');
SELECT * FROM finish();
ROLLBACK;
