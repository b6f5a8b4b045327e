/*
 * A trip: flight, hotel and car. When the third is not to be had, what was booked
 * before is undone, last in first out.
 *
 * Run it with: psql -f examples/trip/trip.sql, in a database with romancy.
 */
CREATE SCHEMA trip;
SET search_path = trip, public;

CREATE TABLE stock (what text PRIMARY KEY, free int NOT NULL CHECK (free >= 0));
CREATE TABLE booking (booking_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	what text NOT NULL, customer text NOT NULL, cancelled boolean NOT NULL DEFAULT false);
INSERT INTO stock VALUES ('flight', 10), ('hotel', 10), ('car', 1);

-- An activity: what it changes and its line in the workflow's history commit together.
CREATE FUNCTION book(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE id bigint;
BEGIN
	UPDATE stock SET free = free - 1 WHERE what = input ->> 'what' AND free > 0;
	IF NOT FOUND THEN
		-- never tried again: there will be no other car in a minute
		RETURN romancy.raise_terminal(format('no %s left', input ->> 'what'), error_code => 'SoldOut');
	END IF;
	INSERT INTO booking (what, customer) VALUES (input ->> 'what', input ->> 'customer') RETURNING booking_id INTO id;
	RETURN jsonb_build_object('booking_id', id);
END $$;

-- The function that undoes it gets its input and its result.
CREATE FUNCTION unbook(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	UPDATE stock SET free = free + 1 WHERE what = input #>> '{input,what}';
	UPDATE booking SET cancelled = true WHERE booking_id = (input #>> '{result,booking_id}')::bigint;
	RETURN NULL;
END $$;

SELECT romancy.define_activity('book', 'book(jsonb)', compensation => 'unbook');
SELECT romancy.define_activity('unbook', 'unbook(jsonb)', retry => '{"max_attempts": 0, "max_duration": null}');

-- The workflow.
CREATE FUNCTION book_trip(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	what text;
	bookings jsonb := '{}';
BEGIN
	FOREACH what IN ARRAY array['flight', 'hotel', 'car'] LOOP
		bookings := bookings || jsonb_build_object(what, romancy.activity('book', jsonb_build_object('what', what, 'customer', input -> 'customer')));
	END LOOP;
	RETURN bookings;
END $$;
SELECT romancy.define_workflow('book_trip', 'book_trip(jsonb)', description => 'Flight, hotel and car, or nothing');

-- Two customers; there is one car.
SELECT romancy.start_workflow('book_trip', '{"customer": "Ada"}', idempotency_key => 'ada') AS ada \gset
SELECT romancy.start_workflow('book_trip', '{"customer": "Ben"}', idempotency_key => 'ben') AS ben \gset
CALL romancy.drain(advance_time => true) \gset

SELECT input ->> 'customer' AS customer, status, error ->> 'message' AS error FROM romancy.instances WHERE workflow = 'book_trip' ORDER BY created_at, instance_id;
SELECT what, customer, cancelled FROM booking ORDER BY booking_id;
SELECT * FROM stock ORDER BY what;
SELECT event_type, activity_id FROM romancy.get_history(:'ben');
