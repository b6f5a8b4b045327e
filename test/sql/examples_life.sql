-- examples/trip and examples/subscription: what they show stays true. All in one
-- transaction, so that nothing of it reaches a worker.
BEGIN;
SET LOCAL client_min_messages = warning;
DELETE FROM romancy.t_instance;
DELETE FROM romancy.t_idempotency;
\i examples/trip/trip.sql
\i examples/subscription/subscription.sql
ROLLBACK;
