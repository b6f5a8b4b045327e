-- A work queue: one dispatcher publishes the files of an order to be made into
-- thumbnails, workers compete for them, and the dispatcher collects what they send back. Each
-- file is worked on by one worker, once, whatever crashes; workers can be added and
-- taken away at any time.

create schema if not exists work_queue;

create table work_queue.thumbnail (file text primary key, made_by uuid, made_at timestamptz default clock_timestamp());

create function work_queue.make_thumbnail(input jsonb) returns jsonb language plpgsql as $$
begin
	insert into work_queue.thumbnail (file, made_by) values (input->>'file', romancy.instance_id());
	return jsonb_build_object('file', input->>'file', 'bytes', length(input->>'file') * 100);
end $$;

-- Competes for files until it is told to stop, or was idle for ten minutes. It starts anew
-- after a hundred files, so that its history stays short.
create function work_queue.worker(input jsonb) returns jsonb language plpgsql as $$
declare
	m romancy.message;
	done int := coalesce((input->>'done')::int, 0);
begin
	perform romancy.subscribe('files', 'competing');
	for i in 1 .. 100 loop
		begin
			m := romancy.receive('files', '10 minutes');
		exception when sqlstate 'RM006' then
			return jsonb_build_object('done', done, 'why', 'idle');
		end;
		if m.data ? 'stop' then
			return jsonb_build_object('done', done, 'why', 'stopped');
		end if;
		perform romancy.send_to(m.sender, 'thumbnails', romancy.activity('work_queue.make_thumbnail', m.data));
		done := done + 1;
	end loop;
	perform romancy.recur(jsonb_build_object('done', done));
	return null;
end $$;

-- Input: {"files": ["a.jpg", ...]}. Output: how many thumbnails, and their size.
create function work_queue.dispatcher(input jsonb) returns jsonb language plpgsql as $$
declare
	file text;
	m romancy.message;
	bytes bigint := 0;
	n int := jsonb_array_length(input->'files');
begin
	for file in select jsonb_array_elements_text(input->'files') loop
		perform romancy.publish('files', jsonb_build_object('file', file));
	end loop;
	for i in 1 .. n loop
		m := romancy.receive('thumbnails', '1 hour');
		bytes := bytes + (m.data->>'bytes')::bigint;
	end loop;
	return jsonb_build_object('thumbnails', n, 'bytes', bytes);
end $$;
