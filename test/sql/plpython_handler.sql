-- Handlers in PL/Python: except catches the unwind, and gains nothing by it.
-- It would catch a handler that runs on after the unwind, and a step that is done twice.
SET client_min_messages = warning;
CREATE EXTENSION plpython3u;
CREATE TABLE python_effect (what text);
CREATE FUNCTION python_act(i jsonb) RETURNS jsonb LANGUAGE plpython3u AS $$
plpy.execute(plpy.prepare('INSERT INTO python_effect VALUES ($1)', ['text']), [i])
return i
$$;
CREATE FUNCTION python_plain(i jsonb) RETURNS jsonb LANGUAGE plpython3u AS $$
a = plpy.execute("SELECT romancy.activity('python_act', '1') AS r")[0]['r']
plpy.execute("SELECT romancy.sleep('1 hour')")
b = plpy.execute("SELECT romancy.activity('python_act', '2') AS r")[0]['r']
return '[%s, %s]' % (a, b)
$$;
CREATE FUNCTION python_except(i jsonb) RETURNS jsonb LANGUAGE plpython3u AS $$
for n in range(3, 6):
    try:
        plpy.execute("SELECT romancy.activity('python_act', '%d')" % n)
    except BaseException:
        pass
return '"through"'
$$;
BEGIN;	-- so that no worker gets there first
SELECT count(romancy.start_workflow(w)) FROM unnest(ARRAY['python_plain', 'python_except']) w;
CALL romancy.drain(advance_time => true);
SELECT workflow, status, output, error->>'message' AS message FROM romancy.instances WHERE workflow LIKE 'python%' ORDER BY 1;
SELECT * FROM python_effect ORDER BY 1;
-- a retry finds the failed step, though Python has added to its message
CREATE FUNCTION python_mended(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN IF NOT EXISTS (SELECT FROM python_effect WHERE what = 'mended') THEN RAISE EXCEPTION 'not mended'; END IF; RETURN $1; END $$;
CREATE FUNCTION python_retried(jsonb) RETURNS jsonb LANGUAGE plpython3u AS $$
return plpy.execute("""SELECT romancy.activity('python_mended', '7', retry => '{"max_attempts": 1}') AS r""")[0]['r']
$$;
SELECT romancy.start_workflow('python_retried') AS id \gset
CALL romancy.drain();
SELECT status, error->>'message' AS message FROM romancy.instances WHERE instance_id = :'id';
INSERT INTO python_effect VALUES ('mended');
SELECT romancy.retry_workflow(:'id');
CALL romancy.drain();
SELECT status, output, error FROM romancy.instances WHERE instance_id = :'id';
COMMIT;
DROP TABLE python_effect;
-- one that catches without end is torn out of the interpreter; the worker leaves with it, and the server does not fall
CREATE FUNCTION python_endless(i jsonb) RETURNS jsonb LANGUAGE plpython3u AS $$
plpy.execute("SELECT romancy.activity('python_quick', '1')")
while True:
    try:
        plpy.execute("SELECT romancy.sleep('1 hour')")
        break
    except Exception:
        pass
return '1'
$$;
CREATE FUNCTION python_quick(i jsonb) RETURNS jsonb LANGUAGE plpython3u AS $$ return i $$;
\set SHOW_CONTEXT never
SELECT romancy.start_workflow('python_endless') AS id \gset
CALL romancy.await_result(:'id', '5 min');
SELECT romancy.start_workflow('python_quick', '"alive"') AS id \gset
CALL romancy.await_result(:'id', '5 min');
