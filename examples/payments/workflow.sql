-- The workflow of an order, half of it SQL and half of it calls to other services. The variables "services" and "accounting"
-- are the URLs of services.py.

set search_path = shop;

-- In the database: effects, event and record in one commit, exactly once.
create function reserve_stock(input jsonb) returns jsonb language plpgsql as $$
declare
    ord orders;
begin
    select * into strict ord from orders where order_id = input->>'order_id';
    update stock set on_hand = on_hand - ord.quantity where sku = ord.sku;
    perform romancy.send_event('shop.order.accepted', '/shop', input, subject => ord.order_id);

    return jsonb_build_object('order_id', ord.order_id, 'amount', ord.amount, 'card', ord.card, 'city', ord.city);
end $$;

create function release_stock(input jsonb) returns jsonb language sql as $$
    update stock s set on_hand = on_hand + o.quantity
    from orders o where o.sku = s.sku and o.order_id = input->'result'->>'order_id'
    returning to_jsonb(on_hand)
$$;

create function close_order(input jsonb) returns jsonb language plpgsql as $$
begin
    update orders set tracking = input->>'tracking', shipped = shipped + 1 where order_id = input->>'order_id';
    perform romancy.send_event('shop.order.shipped', '/shop', input, subject => input->>'order_id');

    return input->'tracking';
end $$;

select romancy.define_activity('reserve_stock', 'reserve_stock(jsonb)', compensation => 'release_stock');
select romancy.define_activity('release_stock', 'release_stock(jsonb)');
select romancy.define_activity('close_order', 'close_order(jsonb)');

-- At other services: at least once, with the same Idempotency-Key on every attempt, so the other side does it once.
\set patient '{"max_attempts": 12, "initial_interval": "100ms", "max_interval": "2s"}'

select romancy.define_activity('refund', retry => :'patient', http => jsonb_build_object(
    'url', :'services' || '/refunds', 'timeout', '3s',       -- its body: what it undoes, {"input": …, "result": …}
    'headers', '{"Authorization": "Bearer {{secret:payments}}"}'::jsonb));
select romancy.define_activity('charge', retry => :'patient', compensation => 'refund', http => jsonb_build_object(
    'url', :'services' || '/charges', 'timeout', '3s',
    'headers', '{"Authorization": "Bearer {{secret:payments}}"}'::jsonb));
select romancy.define_activity('ship', retry => :'patient', http => jsonb_build_object(
    'url', :'services' || '/parcels', 'timeout', '5s',
    'headers', '{"Authorization": "Bearer {{secret:payments}}"}'::jsonb));

-- Two other systems hear of it, signed and in order for each order, when it is true; no order waits for them.
select romancy.define_destination('warehouse', :'services' || '/events', signing_secret => 'events',
    event_types => '{shop.order.*}', ordered => 'subject');
select romancy.define_destination('accounting', :'accounting' || '/events', signing_secret => 'events', format => 'batch',
    event_types => '{shop.order.*,romancy.workflow.failed}', ordered => 'subject',
    retry => '{"max_attempts": 0, "initial_interval": "100ms", "max_interval": "2s"}');

-- A card that is declined, and an address that does not exist, fail it: what was done is undone, last first.
create function fulfil_order(input jsonb) returns jsonb language plpgsql as $$
declare
    ord jsonb := romancy.activity('reserve_stock', input);
    payment jsonb := romancy.activity('charge', ord);
    parcel jsonb;
begin
    perform romancy.sleep('1 s');      -- it is packed
    parcel := romancy.activity('ship', ord);

    return romancy.activity('close_order', input || parcel || jsonb_build_object('charge', payment->'id'));
end $$;

select romancy.define_workflow('fulfil_order', 'fulfil_order(jsonb)');
