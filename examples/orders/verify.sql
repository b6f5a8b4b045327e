-- The proof: after a crash in the middle, did each step happen exactly once?
-- Raises an error, and so ends psql with a non-zero status, when anything differs.

set search_path = shop;

create temp view proof as
select * from (values
    (1, 'workflow instances completed',
        (select count(*) from orders),
        (select count(*) from romancy.instances
         where workflow = 'fulfil_order' and status = 'completed'),
        (select count(*) from romancy.instances
         where workflow = 'fulfil_order' and status <> 'completed')),
    (2, 'pieces taken from stock',
        (select sum(quantity) from orders),
        (select sum(delivered - on_hand) from stock),
        (select count(*)
         from stock s
         left join (select sku, sum(quantity) as ordered from orders group by sku) o using (sku)
         where s.delivered - s.on_hand <> coalesce(o.ordered, 0))),
    (3, 'payments',
        (select count(*) from orders),
        (select count(*) from payments),
        (select count(*)
         from orders o
         left join (select order_id, count(*) as n, sum(amount) as paid, count(gateway_ref) as refs
                    from payments group by order_id) p using (order_id)
         where (p.n, p.refs, p.paid) is distinct from (1::bigint, 1::bigint, o.quantity * o.unit_price))),
    (4, 'money charged',
        (select sum(quantity * unit_price) from orders),
        (select sum(amount) from payments),
        0),
    (5, 'shipments',
        (select count(*) from orders),
        (select count(*) from shipments),
        (select count(*)
         from orders o
         left join (select order_id, count(*) as n, sum(quantity) as pieces, min(sku) as sku
                    from shipments group by order_id) s using (order_id)
         where (s.n, s.pieces, s.sku) is distinct from (1::bigint, o.quantity::bigint, o.sku))),
    (6, 'notifications',
        (select count(*) from orders),
        (select count(*) from notifications),
        (select count(*)
         from orders o
         left join (select order_id, count(*) as n from notifications group by order_id) m using (order_id)
         where m.n is distinct from 1))
) as proof (nr, what, expected, found, wrong);

select what, expected, found, wrong as "orders or articles that differ",
       case when expected = found and wrong = 0 then 'ok' else 'WRONG' end as verdict
from proof order by nr;

do $$
begin
    if exists (select from proof p where p.expected is distinct from p.found or p.wrong <> 0) then
        raise exception 'the books do not balance';
    end if;
end $$;
