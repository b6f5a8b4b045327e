/*
 * The indexes that romancy brings, all of the above: what workers rebuild when it has become mostly empty, and nothing of a DBA's.
 * (A dump has no rows of it: they come with CREATE EXTENSION.)
 */
CREATE TABLE romancy.t_index (
	name text,
	copy uuid DEFAULT pg_catalog.gen_random_uuid(),	/* a subscriber of all tables gets the publisher's rows beside its own */
	PRIMARY KEY (name, copy));
COMMENT ON TABLE romancy.t_index IS 'Names of the indexes that romancy brings, which its workers may rebuild';
INSERT INTO romancy.t_index
SELECT relname FROM pg_catalog.pg_class WHERE relnamespace = 'romancy'::regnamespace AND relkind = 'i';
SELECT pg_catalog.pg_extension_config_dump('romancy.t_index', 'WHERE false');
