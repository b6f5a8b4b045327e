-- A project of tasks, worked off in batches of five by programs outside the database.
-- A batch with dependencies runs in order, one without in parallel; after each batch the
-- progress is reported, and at the end a callback writes down that the project is done.
create table project (id int primary key, state text not null default 'new', results jsonb);
create table project_task (
	project_id int references project, n int, needs int, ms int not null, fail int not null default 0,
	primary key (project_id, n));

select romancy.define_activity('work', queue => 'hands', start_to_close_timeout => '10s',
	retry => '{"initial_interval": "20ms", "max_attempts": 5}');

-- the batches of a project: an array of {"ordered": boolean, "tasks": [...]}
create function plan_project(input jsonb) returns jsonb language sql volatile as $$
	select jsonb_agg(jsonb_build_object('ordered', ordered, 'tasks', tasks) order by batch)
	from (select (n - 1) / 5 as batch, bool_or(needs is not null) as ordered,
			jsonb_agg(jsonb_build_object('n', n, 'ms', ms, 'fail', fail) order by n) as tasks
		from project_task where project_id = (input->>'project')::int group by 1) b
$$;

create function finish_project(input jsonb) returns jsonb language sql volatile as $$
	update project set state = 'done', results = input->'results' where id = (input->>'project')::int
	returning jsonb_build_object('tasks', jsonb_array_length(results))
$$;

create function run_project(input jsonb) returns jsonb language plpgsql as $$
declare
	batches jsonb := romancy.activity('plan_project', input);
	results jsonb := '[]';
	batch jsonb;
	task jsonb;
begin
	for batch in select * from jsonb_array_elements(batches) loop
		if (batch->>'ordered')::boolean then
			for task in select * from jsonb_array_elements(batch->'tasks') loop
				results := results || jsonb_build_array(romancy.activity('work', task));
			end loop;
		else
			results := results || romancy.map('work', batch->'tasks');
		end if;
		perform romancy.set_progress(jsonb_array_length(results), (input->>'total')::bigint);
	end loop;
	return romancy.activity('finish_project', input || jsonb_build_object('results', results));
end $$;
