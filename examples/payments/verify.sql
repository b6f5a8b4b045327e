-- The proof: the shop's tables, and the books of the services, which know nothing of the shop's. Raises an error, and so ends psql with a
-- non-zero status, when anything differs. Table "books" has the lines that services.py wrote.

set search_path = shop;

create temp view orders_at_services as
select o.order_id, o.amount, o.quantity, o.sku, o.tracking, o.shipped,
       (o.card <> 'expired') as can_pay, (o.card <> 'expired' and o.city <> 'Atlantis') as can_ship,
       count(*) filter (where b.line->>'what' = 'charge') as charges,
       coalesce(sum((b.line->>'amount')::numeric) filter (where b.line->>'what' = 'charge'), 0) as charged,
       count(*) filter (where b.line->>'what' = 'refund') as refunds,
       count(*) filter (where b.line->>'what' = 'parcel') as parcels
from orders o left join books b on b.line->>'order_id' = o.order_id
group by o.order_id;

-- each event, at each receiver: how often, and after which other ones of its order
create temp view events_at_receivers as
select b.line->>'service' as receiver, b.line->>'type' as type, b.line->>'id' as id, b.line->>'subject' as subject,
       count(*) as times, min((b.line->>'at')::float8) as first
from books b where b.line->>'what' = 'event'
group by 1, 2, 3, 4;

create temp view proof as
select * from (values
    (1, 'workflows completed, each order closed once',
        (select count(*) from orders_at_services where can_ship),
        (select count(*) from romancy.instances where workflow = 'fulfil_order' and status = 'completed'),
        (select count(*) from orders_at_services where shipped <> can_ship::int or (tracking is not null) <> can_ship)),
    (2, 'workflows failed: card, address',
        (select count(*) from orders_at_services where not can_ship),
        (select count(*) from romancy.instances where workflow = 'fulfil_order' and status = 'failed' and error->>'code' in ('HTTP 402', 'HTTP 422')),
        (select count(*) from romancy.instances where workflow = 'fulfil_order' and status not in ('completed', 'failed'))),
    (3, 'charges, in the books of the payment provider',
        (select count(*) from orders_at_services where can_pay),
        (select sum(charges) from orders_at_services),
        (select count(*) from orders_at_services where charges <> can_pay::int or charged <> amount * can_pay::int)),
    (4, 'refunds, there',
        (select count(*) from orders_at_services where can_pay and not can_ship),
        (select sum(refunds) from orders_at_services),
        (select count(*) from orders_at_services where refunds <> (can_pay and not can_ship)::int)),
    (5, 'parcels, in the books of the carrier',
        (select count(*) from orders_at_services where can_ship),
        (select sum(parcels) from orders_at_services),
        (select count(*) from orders_at_services where parcels <> can_ship::int)),
    (6, 'pieces taken from stock',
        (select sum(quantity) from orders_at_services where can_ship),
        (select sum(delivered - on_hand) from stock),
        (select count(*) from stock s where s.delivered - s.on_hand <>
            (select coalesce(sum(quantity), 0) from orders_at_services o where o.sku = s.sku and can_ship))),
    (7, 'events at the warehouse',
        (select 2 * count(*) filter (where can_ship) + count(*) filter (where not can_ship) from orders_at_services),
        (select count(*) from events_at_receivers where receiver = 'warehouse'),
        (select count(*) from events_at_receivers s join events_at_receivers a using (receiver, subject)
         where receiver = 'warehouse' and s.type = 'shop.order.shipped' and a.type = 'shop.order.accepted' and a.first > s.first)),
    (8, 'events at accounting',
        (select 2 * count(*) from orders_at_services),
        (select count(*) from events_at_receivers where receiver = 'accounting'),
        (select count(*) from events_at_receivers s join events_at_receivers a using (receiver, subject)
         where receiver = 'accounting' and s.type = 'shop.order.shipped' and a.type = 'shop.order.accepted' and a.first > s.first))
) as proof (nr, what, expected, found, wrong);

select what, expected, found, wrong as "differ, or out of order",
       case when expected = found and wrong = 0 then 'ok' else 'WRONG' end as verdict
from proof order by nr;

do $$
begin
    if exists (select from proof p where p.expected is distinct from p.found or p.wrong is distinct from 0) then
        raise exception 'the books do not balance';
    end if;
end $$;
