-- The tables of a small shop. Nothing in them knows about workflows.
--
-- On purpose there is no unique key on payments.order_id and the like: if a
-- step were ever carried out twice, the second row should be there to be seen,
-- not be caught by a constraint.

create schema shop;
set search_path = shop;

create table stock (
    sku        text primary key,
    title      text not null,
    delivered  int not null,
    on_hand    int not null check (on_hand >= 0)
);

create table orders (
    order_id    text primary key,
    ordered_at  timestamptz not null,
    customer    text not null,
    email       text not null,
    city        text not null,
    postcode    text not null,
    country     text not null,
    sku         text not null references stock,
    quantity    int not null check (quantity > 0),
    unit_price  numeric(10,2) not null
);

create table payments (
    payment_id    bigint generated always as identity primary key,
    order_id      text not null references orders,
    amount        numeric(10,2) not null,
    gateway_ref   text,
    paid_at       timestamptz not null default clock_timestamp()
);

create table shipments (
    shipment_id   bigint generated always as identity primary key,
    order_id      text not null references orders,
    sku           text not null,
    quantity      int not null,
    address       text not null,
    tracking      text not null,
    shipped_at    timestamptz not null default clock_timestamp()
);

create table notifications (
    notification_id bigint generated always as identity primary key,
    order_id      text not null references orders,
    recipient     text not null,
    subject       text not null,
    queued_at     timestamptz not null default clock_timestamp()
);
