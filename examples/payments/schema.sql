-- The tables of the shop, and 200 orders. Ten cards have expired, and ten orders go to a city that no carrier knows.

create schema shop;
set search_path = shop;

create table stock (
    sku        text primary key,
    delivered  int not null,
    on_hand    int not null check (on_hand >= 0)
);

create table orders (
    order_id   text primary key,
    sku        text not null references stock,
    quantity   int not null,
    amount     numeric(10,2) not null,
    card       text not null,
    city       text not null,
    tracking   text,
    shipped    int not null default 0      -- how often
);

insert into stock select 'SKU-' || n, 500, 500 from generate_series(1, 10) n;

create function incoming() returns setof orders language sql as $$
    select 'O-' || n, 'SKU-' || 1 + n % 10, 1 + n % 3, 5 + n % 20 + 0.95,
           case when n % 20 = 7 then 'expired' else '4242' end,
           case when n % 20 = 13 then 'Atlantis' else (array['Rome', 'Oslo', 'Kyoto'])[1 + n % 3] end,
           null, 0
    from generate_series(1, 200) n
$$;
