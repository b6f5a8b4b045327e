-- A human approves an expense. After two days without an answer there is a reminder,
-- after five the expense is refused. No program polls: the workflow waits in the
-- database, for a message or for time, and holds no process and no transaction.

create schema if not exists approval;

create table approval.mail (id int generated always as identity, sent_to text, subject text);
create table approval.payment (expense int primary key, amount numeric);

-- Activities: what they write commits together with the workflow's history.
create function approval.send_mail(input jsonb) returns jsonb language plpgsql as $$
begin
	insert into approval.mail (sent_to, subject) values (input->>'to', input->>'subject');
	return null;
end $$;

create function approval.pay(input jsonb) returns jsonb language plpgsql as $$
begin
	insert into approval.payment values ((input->>'expense')::int, (input->>'amount')::numeric);
	return null;
end $$;

-- The workflow. Its input: {"expense": 1, "amount": 99.50, "approver": "ann"}
create function approval.expense(input jsonb) returns jsonb language plpgsql as $$
declare
	answer romancy.message;
	subject text := format('Expense %s: please approve %s', input->>'expense', input->>'amount');
begin
	perform romancy.activity('approval.send_mail', jsonb_build_object('to', input->>'approver', 'subject', subject));
	begin
		answer := romancy.receive('approval', '2 days');
	exception when sqlstate 'RM006' then		-- timeout
		perform romancy.activity('approval.send_mail',
			jsonb_build_object('to', input->>'approver', 'subject', 'Reminder: ' || subject));
		begin
			answer := romancy.receive('approval', '3 days');
		exception when sqlstate 'RM006' then
			return '{"approved": false, "reason": "no answer"}';
		end;
	end;
	if (answer.data->>'approved')::boolean then
		perform romancy.activity('approval.pay', input);
	end if;
	return answer.data;
end $$;

-- The approver's page calls this. An answer that comes before the question is kept.
create function approval.answer(workflow uuid, approved boolean, reason text default null) returns bigint language sql as $$
	select romancy.send_to(workflow, 'approval', jsonb_strip_nulls(jsonb_build_object('approved', approved, 'reason', reason)))
$$;
