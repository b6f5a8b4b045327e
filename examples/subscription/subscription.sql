/*
 * A subscription that bills monthly, for as long as it is not cancelled. Each
 * month is an instance of its own: recur ends the old one and starts the next, so
 * that no history grows without end.
 *
 * Run it with: psql -f examples/subscription/subscription.sql, in a database with romancy.
 */
CREATE SCHEMA subscription;
SET search_path = subscription, public;

CREATE TABLE customer (name text PRIMARY KEY, balance numeric NOT NULL);
CREATE TABLE invoice (customer text NOT NULL, month int NOT NULL, amount numeric NOT NULL, PRIMARY KEY (customer, month));
INSERT INTO customer VALUES ('Ada', 30), ('Ben', 1000);

CREATE FUNCTION bill(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	UPDATE customer SET balance = balance - (input ->> 'amount')::numeric
	WHERE name = input ->> 'customer' AND balance >= (input ->> 'amount')::numeric;
	IF NOT FOUND THEN
		RETURN romancy.raise_terminal(format('%s cannot pay', input ->> 'customer'));
	END IF;
	INSERT INTO invoice VALUES (input ->> 'customer', (input ->> 'month')::int, (input ->> 'amount')::numeric);
	RETURN NULL;
END $$;

CREATE FUNCTION subscribe(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	PERFORM romancy.activity('bill', input);
	PERFORM romancy.sleep('1 month');
	RETURN romancy.recur(jsonb_set(input, '{month}', to_jsonb((input ->> 'month')::int + 1)));
EXCEPTION WHEN SQLSTATE 'RM007' THEN
	RETURN jsonb_build_object('ended', sqlerrm, 'months', (input ->> 'month')::int - 1);
END $$;
SELECT romancy.define_workflow('subscribe', 'subscribe(jsonb)', retention => '90 days', description => 'Bills a customer every month');

-- Both begin tomorrow
SELECT romancy.start_workflow('subscribe', '{"customer": "Ada", "amount": 10, "month": 1}', start_at => now() + interval '1 day') AS ada \gset
SELECT romancy.start_workflow('subscribe', '{"customer": "Ben", "amount": 12.5, "month": 1}', start_at => now() + interval '1 day') AS ben \gset

-- Half a year, in no time. (The workers would do it in half a year.)
CALL romancy.drain(max_turns => 20, advance_time => true) \gset
SELECT customer, count(*) AS months, sum(amount) AS paid FROM invoice GROUP BY customer ORDER BY customer;

-- Ada has run out of money. The result is found by the id that the first call returned.
SELECT romancy.get_result(:'ada');

-- Ben cancels: the generation that is live now is asked to.
SELECT count(romancy.cancel_workflow(instance_id, 'no longer wanted')) AS asked FROM romancy.instances
	WHERE workflow = 'subscribe' AND input ->> 'customer' = 'Ben' AND finished_at IS NULL;
CALL romancy.drain() \gset
SELECT input ->> 'customer' AS customer, status, count(*) FROM romancy.instances WHERE workflow = 'subscribe' GROUP BY 1, 2 ORDER BY 1, 2;
