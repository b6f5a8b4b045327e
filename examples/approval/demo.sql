-- psql -f workflow.sql -f demo.sql, in a database with the extension. drain() runs what is ready
-- in this session, and with advance_time the days pass at once; workers would do
-- the same without it, in real time.
\set QUIET on
\pset footer off
select romancy.start_workflow('approval.expense', '{"expense": 1, "amount": 99.50, "approver": "ann"}') as yes \gset
select romancy.start_workflow('approval.expense', '{"expense": 2, "amount": 20000, "approver": "ann"}') as no \gset
select romancy.start_workflow('approval.expense', '{"expense": 3, "amount": 12, "approver": "bob"}') as silent \gset
call romancy.drain() \g /dev/null

select approval.answer(:'yes', true) is not null as answered;
call romancy.drain() \g /dev/null

-- two days later
call romancy.drain(max_turns => 2, advance_time => true) \g /dev/null
select approval.answer(:'no', false, 'too much') is not null as answered;
call romancy.drain(advance_time => true) \g /dev/null

select i.input->>'expense' as expense, i.status, i.output from romancy.instances i
where i.workflow = 'approval.expense' order by 1;
select sent_to, subject from approval.mail order by subject;
select * from approval.payment;
