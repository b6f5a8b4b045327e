-- An instance that was started while the clock was ahead, and has ended since it was set right, is deleted when its retention is over: not when the clock is where it was.
-- It would catch a sweep that looks only at what was created before now.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT no_plan();
SET LOCAL client_min_messages = warning;
CREATE FUNCTION quick(jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $1';
SELECT romancy.define_workflow('quick', 'quick(jsonb)', retention => '1 min');
SELECT romancy.start_workflow('quick') AS ahead \gset
SELECT romancy.start_workflow('quick') AS fresh \gset
SELECT romancy.start_workflow('quick') AS old \gset
CALL romancy.drain();
UPDATE romancy.t_instance SET created_at = now() + interval '2 h', finished_at = now() - interval '2 min' WHERE instance_id = :'ahead';
UPDATE romancy.t_instance SET created_at = now() + interval '2 h' WHERE instance_id = :'fresh';
UPDATE romancy.t_instance SET created_at = now() - interval '1 h', finished_at = now() - interval '2 min' WHERE instance_id = :'old';
SELECT is(romancy.run_sweep('retention'), 1::bigint, 'what is old goes first');
SELECT is(romancy.run_sweep('retention'), 1::bigint, 'then what the clock was ahead for');
SELECT is((SELECT array_agg(instance_id) FROM romancy.instances WHERE workflow = 'quick'), array[:'fresh']::uuid[], 'but not what has just ended');
SELECT * FROM finish();
ROLLBACK;
