/*-------------------------------------------------------------------------
 *
 * channel.c
 *		The competitors of a channel: finding one that waits, and waking it.
 *
 * A channel may have very many competitors. One is chosen by a sample at a random place
 * among them; only if none of these waits, the waiting ones are looked for.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/pg_prng.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/spi.h"
#include "memory/ready.h"
#include "memory/slot.h"
#include "memory/wake.h"
#include "messages/channel.h"

/* Competitors that are looked at, to find one that waits and is not busy. */
#define SAMPLE 32

/* Waiting competitors that are looked at if none of these waits. */
#define CANDIDATES 8

Oid
rom_channel_owner(const char *name)
{
	static char last_name[NAMEDATALEN] = "";
	static Oid	last_oid = InvalidOid;

	if (strcmp(name, last_name) != 0 || !OidIsValid(last_oid) ||
		get_role_oid(name, true) != last_oid)
	{
		last_oid = get_role_oid(name, true);
		strlcpy(last_name, name, sizeof(last_name));
	}
	return last_oid;
}

char *
rom_channel_key(int32 namespace, const char *channel)
{
	return psprintf("%d:%s", namespace, channel);
}

const char *
rom_channel_of_key(const char *key, int32 *namespace)
{
	const char *colon = strchr(key, ':');

	*namespace = atoi(key);
	return colon ? colon + 1 : "";
}

uint64
rom_channel_find_waiting(RomRowSet *set, int32 namespace, const char *channel, int max)
{
	static RomStatement find = {
		"(SELECT i.instance_id, i.owner, i.priority FROM romancy.t_instance i"
		"  WHERE i.status = 'waiting_for_message' AND i.namespace = $3 AND i.wait ->> 'name' = $1 AND EXISTS"
		"  (SELECT FROM romancy.t_subscription s WHERE s.instance_id = i.instance_id"
		"   AND s.channel = $1 AND s.mode = 'competing' OFFSET 0) LIMIT $2)"
		" UNION ALL (SELECT i.instance_id, i.owner, i.priority FROM romancy.t_subscription s"
		"  JOIN romancy.t_instance i USING (instance_id) WHERE s.namespace = $3 AND s.channel = $1 AND s.mode = 'competing'"
		"  AND s.spawned > 0 AND " ROM_AWAITING_SQL " LIMIT $2)"
		" LIMIT $2",
		3, {TEXTOID, INT4OID, INT4OID}
	};
	Datum		values[3];

	values[0] = CStringGetTextDatum(channel);
	values[1] = Int32GetDatum(max);
	values[2] = Int32GetDatum(namespace);
	return rom_execute_rows_at(set, &find, values, NULL, GetLatestSnapshot(), 0);
}

/*
 * choose takes one of the rows found whose instance is not busy, or any; true when there is no need to look further.
 * *found: whether item holds one.
 */
static bool
choose(const RomRowSet *set, uint64 rows, const pg_uuid_t *except, RomReadyItem *item, bool *found)
{
	for (uint64 i = 0; i < rows; i++)
	{
		bool		isnull;
		pg_uuid_t  *id = DatumGetUUIDP(rom_value(set, i, 1, &isnull));
		bool		busy = rom_slot_busy(id);
		Oid			owner;

		if (except != NULL && memcmp(id, except, sizeof(pg_uuid_t)) == 0)
			continue;
		if (*found && busy)
			continue;
		owner = rom_channel_owner(rom_value_text(set, i, 2, CurrentMemoryContext));
		if (!OidIsValid(owner))
			continue;
		item->id = *id;
		item->owner = owner;
		item->priority = DatumGetInt32(rom_value(set, i, 3, &isnull));
		*found = true;
		if (!busy)
			return true;
	}
	return false;
}

bool
rom_channel_wake_one(int32 namespace, const char *channel, const pg_uuid_t *except, bool now)
{
	static RomStatement sample = {
		"WITH s AS MATERIALIZED (SELECT s.instance_id, s.pick, s.spawned FROM romancy.t_subscription s"
		"  WHERE s.namespace = $5 AND s.channel = $1 AND s.mode = 'competing' AND s.pick >= $2 AND s.pick < $3"
		"  ORDER BY s.pick LIMIT $4)"
		" SELECT s.instance_id, i.owner, i.priority FROM s, LATERAL (SELECT * FROM romancy.t_instance x"
		"  WHERE x.instance_id = s.instance_id OFFSET 0) i"
		" WHERE s.spawned > 0 AND " ROM_AWAITING_SQL
		" OR i.status = 'waiting_for_message' AND i.wait ->> 'name' = $1 ORDER BY s.pick",
		5, {TEXTOID, INT4OID, INT4OID, INT4OID, INT4OID}
	};
	int32		pivot = (int32) (pg_prng_double(&pg_global_prng_state) * PG_INT32_MAX);
	Datum		values[5];
	RomReadyItem item;
	bool		found = false;
	RomRowSet	set;

	memset(&item, 0, sizeof(item));
	values[0] = CStringGetTextDatum(channel);
	values[3] = Int32GetDatum(SAMPLE);
	values[4] = Int32GetDatum(namespace);
	for (int pass = 0; pass < 2; pass++)
	{
		values[1] = Int32GetDatum(pass == 0 ? pivot : 0);
		values[2] = Int32GetDatum(pass == 0 ? PG_INT32_MAX : pivot);
		if (choose(&set, rom_execute_rows_at(&set, &sample, values, NULL, GetLatestSnapshot(), 0), except, &item, &found))
			goto done;
	}
	/* it may be that few wait among many */
	if (!found)
		(void) choose(&set, rom_channel_find_waiting(&set, namespace, channel, CANDIDATES), except, &item, &found);
done:
	if (!found)
		return false;
	if (now)
	{
		item.dbid = MyDatabaseId;
		item.slow = false;
		item.at = GetCurrentTimestamp();
		rom_ready_put(&item, 1, item.at);
	}
	else
		rom_wake_ready(&item.id, item.owner, item.priority);
	return true;
}
