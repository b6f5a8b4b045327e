/*-------------------------------------------------------------------------
 *
 * late.c
 *		Outcomes of requests that could not be recorded: when each is tried again.
 *
 * One whose record fails alone, too, is late: it is tried again from time to time, a few in a pass, while new outcomes go past. An error
 * that passes (rom_error_is_passing()) is no fault of the request's: it is tried again until it has passed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "base/errors.h"
#include "http/late.h"

/* Late ones that are tried in one pass, each in a transaction of its own. */
#define LATE_MAX 64

/* One that cannot be recorded so often (some seconds), as another transaction has a row of it, is held. */
#define HELD_TRIES 6

/* The delay after the first error, and the longest. */
#define TRY_AGAIN_MS 200
#define TRY_AGAIN_MAX_MS 2000

RomLate *
rom_late_first(dlist_head *list)
{
	return dlist_is_empty(list) ? NULL : dlist_container(RomLate, node, dlist_head_node(list));
}

RomLate *
rom_late_next(dlist_head *list, RomLate *entry)
{
	return dlist_has_next(list, &entry->node) ? dlist_container(RomLate, node, dlist_next_node(list, &entry->node)) : NULL;
}

RomLate *
rom_late_pop(dlist_head *list)
{
	return dlist_is_empty(list) ? NULL : dlist_container(RomLate, node, dlist_pop_head_node(list));
}

typedef struct Alone
{
	RomUnit		unit;
	RomLate    *entry;
} Alone;

/* alone_unit notes what kind of error a unit has raised. */
static void
alone_unit(void *arg)
{
	Alone	   *alone = arg;

	PG_TRY();
	{
		alone->unit(alone->entry);
	}
	PG_CATCH();
	{
		alone->entry->passing = rom_error_is_passing(geterrcode());
		PG_RE_THROW();
	}
	PG_END_TRY();
}

bool
rom_late_unit(RomUnit unit, RomLate *entry)
{
	Alone		alone = {unit, entry};

	entry->passing = false;
	if (rom_bgw_unit(alone_unit, &alone, entry->tries > 0))
		return true;
	if (!entry->passing)
		entry->faults++;
	return false;
}

bool
rom_late_settle(RomLateList *late, dlist_head *list, bool (*is_done) (RomLate *entry))
{
	RomLate    *entry;
	bool		any = false;

	while ((entry = rom_late_pop(list)) != NULL)
	{
		int			delay = Min(TRY_AGAIN_MS << Min(entry->tries, 4), TRY_AGAIN_MAX_MS);

		if (is_done(entry))
		{
			any = true;
			late->discard(entry);
			continue;
		}
		if (++entry->tries >= HELD_TRIES)
			late->hold(entry);
		entry->try_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), delay);
		dlist_push_tail(&late->entries, &entry->node);
	}
	return any;
}

TimestampTz
rom_late_again(RomLateList *late, bool *any)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz again = DT_NOEND;
	RomLate    *after;
	dlist_head	due;
	int			n = 0;

	if (dlist_is_empty(&late->entries))
		return DT_NOEND;
	dlist_init(&due);
	for (RomLate *entry = rom_late_first(&late->entries); entry != NULL && n < LATE_MAX; entry = after)
	{
		after = rom_late_next(&late->entries, entry);
		if (entry->try_at > now)
			continue;
		n++;
		dlist_delete(&entry->node);
		dlist_push_tail(&due, &entry->node);
	}
	*any |= rom_late_settle(late, &due, late->record);
	for (RomLate *entry = rom_late_first(&late->entries); entry != NULL; entry = rom_late_next(&late->entries, entry))
		again = Min(again, entry->try_at);
	/* those that are to wait for their turn let others go first */
	return Max(again, TimestampTzPlusMilliseconds(now, TRY_AGAIN_MS));
}
