-- examples/trip and examples/subscription: what they show stays true. All in one
-- transaction, so that nothing of it reaches a worker.
-- It would catch an example that has drifted from the engine.
BEGIN;
SET LOCAL client_min_messages = warning;
DELETE FROM romancy.t_instance;
DELETE FROM romancy.t_idempotency;
\i examples/trip/trip.sql
\i examples/subscription/subscription.sql
ROLLBACK;
