-- psql -f workflow.sql -f demo.sql, in a database with the extension. Workers of the
-- server run it where romancy is preloaded; drain() runs it here as well.
\set QUIET on
\pset footer off
-- files that are published before there is a worker wait for one
select romancy.start_workflow('work_queue.dispatcher',
	jsonb_build_object('files', (select jsonb_agg(format('img_%s.jpg', i)) from generate_series(1, 240) i))) as job \gset
select count(romancy.start_workflow('work_queue.worker', '{}')) as workers from generate_series(1, 4);
call romancy.drain() \g /dev/null
call romancy.await_result(:'job', '60 s');
select count(*) as thumbnails, count(distinct file) as files from work_queue.thumbnail;
-- one stop for each worker
select count(romancy.publish('files', '{"stop": true}')) as stops from generate_series(1, 4);
call romancy.drain() \g /dev/null
