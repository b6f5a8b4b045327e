-- The workflow of an order: reserve stock, charge, let the parcel be packed, ship, notify.
--
-- Activities are ordinary functions. Their writes are committed
-- together with the history row that says that it ran: exactly once.

set search_path = shop;

-- Takes the articles off the shelf.
create function reserve_stock(input jsonb) returns jsonb
language plpgsql as $$
declare
    ord orders;
begin
    select * into strict ord from orders where order_id = input->>'order_id';

    update stock set on_hand = on_hand - ord.quantity where sku = ord.sku;

    return jsonb_build_object('sku', ord.sku, 'quantity', ord.quantity,
        -- the more pieces, the longer it takes to pack them
        'packing_seconds', 0.5 + 0.25 * ord.quantity);
end $$;

-- A stand-in for a payment provider. It fails now and then; whether it does
-- depends on the order and on the attempt alone, so the demo fails in the same
-- places each time. Real gateways are outside the database: see doc/guide.md,
-- "Activities with effects elsewhere".
create function gateway_charge(reference text, attempt int, amount numeric) returns text
language plpgsql as $$
declare
    luck int := get_byte(sha256(convert_to(reference || '#' || attempt, 'UTF8')), 0);
begin
    perform pg_sleep(0.003);

    if luck < 14 then
        raise exception 'payment gateway: 504 Gateway Timeout'
            using errcode = '08006', detail = format('No answer to %s within 3 ms.', reference);
    elsif luck < 24 then
        raise exception 'payment gateway: 429 Too Many Requests'
            using errcode = '53400', hint = 'Retry-After: 1';
    elsif luck < 30 then
        raise exception 'payment gateway: 502 Bad Gateway'
            using errcode = '08004', detail = 'upstream issuer closed the connection';
    end if;

    return 'ch_' || left(encode(sha256(convert_to(reference, 'UTF8')), 'hex'), 24);
end $$;

-- Charges the customer. The row in payments is written before the gateway is
-- asked: when the gateway fails, the attempt is rolled back and the row with it.
create function charge(input jsonb) returns jsonb
language plpgsql as $$
declare
    ord orders;
    amount numeric;
    payment bigint;
    reference text;
begin
    select * into strict ord from orders where order_id = input->>'order_id';
    amount := ord.quantity * ord.unit_price;

    if amount <= 0 then
        -- Trying again would not help: an error that is never retried.
        perform romancy.raise_terminal('nothing to charge', jsonb_build_object('amount', amount));
    end if;

    insert into payments (order_id, amount) values (ord.order_id, amount)
        returning payment_id into payment;

    -- step_key() is the same on every attempt of this step: what a gateway
    -- calls an idempotency key.
    reference := gateway_charge(ord.order_id, romancy.attempt(), amount);
    update payments set gateway_ref = reference || '/' || romancy.step_key()
        where payment_id = payment;

    return jsonb_build_object('payment_id', payment, 'amount', amount);
end $$;

create function ship(input jsonb) returns jsonb
language plpgsql as $$
declare
    ord orders;
    label text;
begin
    select * into strict ord from orders where order_id = input->>'order_id';
    label := upper(ord.country) || left(encode(sha256(convert_to(ord.order_id, 'UTF8')), 'hex'), 12);

    insert into shipments (order_id, sku, quantity, address, tracking)
        values (ord.order_id, ord.sku, ord.quantity,
                concat_ws(', ', ord.customer, ord.postcode || ' ' || ord.city, ord.country), label);

    return jsonb_build_object('tracking', label);
end $$;

create function notify_customer(input jsonb) returns jsonb
language plpgsql as $$
begin
    insert into notifications (order_id, recipient, subject)
        select o.order_id, o.email,
               format('Your order %s is on its way (%s)', o.order_id, input->>'tracking')
        from orders o where o.order_id = input->>'order_id';

    return null;
end $$;

-- The workflow. It may be run from the top any number of times (after a wait,
-- a crash, an upgrade): each step that is in its history is answered from there.
create function fulfil_order(input jsonb) returns jsonb
language plpgsql as $$
declare
    reserved jsonb;
    payment  jsonb;
    shipment jsonb;
begin
    reserved := romancy.activity('reserve_stock', input);
    payment  := romancy.activity('charge', input);

    perform romancy.sleep(make_interval(secs => (reserved->>'packing_seconds')::float8));

    shipment := romancy.activity('ship', input);
    perform romancy.activity('notify', input || shipment);

    return jsonb_build_object('paid', payment->'amount', 'tracking', shipment->'tracking');
end $$;

select romancy.define_activity('reserve_stock', 'reserve_stock(jsonb)');
select romancy.define_activity('charge', 'charge(jsonb)',
    retry => '{"max_attempts": 8,
               "initial_interval": "200ms",
               "backoff_coefficient": 2,
               "max_interval": "2s",
               "retryable_errors": ["08", "53"]}',
    description => 'class 08 and 53: connection and overload errors of the gateway');
select romancy.define_activity('ship', 'ship(jsonb)');
select romancy.define_activity('notify', 'notify_customer(jsonb)');
select romancy.define_workflow('fulfil_order', 'fulfil_order(jsonb)',
    description => 'reserve stock, charge, pack, ship, notify');
