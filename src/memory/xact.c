/*-------------------------------------------------------------------------
 *
 * xact.c
 *		Callbacks at the ends of transactions: one registration with the server, a
 *		table of participants in the order in which they run, and their notes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "memory/xact.h"

#define PARTS_MAX 16

/* Room for notes: at first, and what is kept beyond a transaction. */
#define ROOM_MIN 16
#define ROOM_KEPT 256

/* In order; of the same order, as they registered. */
static const RomXactPart *parts[PARTS_MAX];
static int	n_parts = 0;

/* The level of note number i. */
static int *
level_of(RomNotes *notes, int i)
{
	return &((RomNote *) ((char *) notes->array + i * notes->size))->level;
}

void
rom_xact_reserve(RomNotes *notes, int n)
{
	int			room = Max(notes->room, ROOM_MIN);

	if (notes->count + n <= notes->room)
		return;
	while (notes->count + n > room)
		room *= 2;
	if (notes->array == NULL)
		notes->array = MemoryContextAlloc(TopMemoryContext, room * notes->size);
	else
		notes->array = repalloc(notes->array, room * notes->size);
	notes->room = room;
}

void *
rom_xact_note(RomNotes *notes, int level)
{
	RomNote    *note;

	rom_xact_reserve(notes, 1);
	note = (RomNote *) ((char *) notes->array + notes->count++ * notes->size);
	memset(note, 0, notes->size);
	note->level = level;
	return note;
}

void
rom_xact_undo(const RomXactPart *part, int first)
{
	RomNotes   *notes = part->notes;

	if (notes->count <= first)
		return;
	if (part->undo == NULL)
		notes->count = first;
	while (notes->count > first)
	{
		notes->count--;
		part->undo((char *) notes->array + notes->count * notes->size);
	}
	if (part->undone)
		part->undone();
}

void
rom_xact_forget(RomNotes *notes)
{
	notes->count = 0;
	if (notes->room <= ROOM_KEPT)
		return;
	pfree(notes->array);
	notes->array = NULL;
	notes->room = 0;
}

/* sub_ended has the notes of a subtransaction undone, or makes them those of the one around it. */
static void
sub_ended(const RomXactPart *part, int level, bool commit)
{
	RomNotes   *notes = part->notes;
	int			first;

	if (notes == NULL || notes->count == 0)
		return;
	for (first = notes->count; first > 0 && *level_of(notes, first - 1) >= level; first--)
		if (commit)
			*level_of(notes, first - 1) = level - 1;
	if (!commit)
		rom_xact_undo(part, first);
	else if (part->joined && first < notes->count)
		part->joined(first);
}

static void
at_xact(XactEvent event, void *arg)
{
	for (int i = 0; i < n_parts; i++)
	{
		const RomXactPart *part = parts[i];

		switch (event)
		{
			case XACT_EVENT_PRE_COMMIT:
			case XACT_EVENT_PRE_PREPARE:
				if (part->pre_commit)
					part->pre_commit(event == XACT_EVENT_PRE_PREPARE);
				break;
			case XACT_EVENT_COMMIT:
				if (part->committed)
					part->committed();
				break;
			case XACT_EVENT_PREPARE:
				if (part->prepared)
					part->prepared();
				break;
			case XACT_EVENT_ABORT:
			case XACT_EVENT_PARALLEL_COMMIT:
			case XACT_EVENT_PARALLEL_ABORT:
				if (part->notes)
				{
					rom_xact_undo(part, 0);
					rom_xact_forget(part->notes);
				}
				if (part->aborted)
					part->aborted();
				break;
			case XACT_EVENT_PARALLEL_PRE_COMMIT:
				break;
		}
	}
}

static void
at_subxact(SubXactEvent event, SubTransactionId mySubid,
		   SubTransactionId parentSubid, void *arg)
{
	int			level = GetCurrentTransactionNestLevel();

	for (int i = 0; i < n_parts; i++)
	{
		const RomXactPart *part = parts[i];

		switch (event)
		{
			case SUBXACT_EVENT_START_SUB:
				if (part->sub_began)
					part->sub_began(level);
				break;
			case SUBXACT_EVENT_COMMIT_SUB:
				sub_ended(part, level, true);
				break;
			case SUBXACT_EVENT_ABORT_SUB:
				sub_ended(part, level, false);
				if (part->sub_aborted)
					part->sub_aborted(level);
				break;
			case SUBXACT_EVENT_PRE_COMMIT_SUB:
				break;
		}
	}
}

static void
at_release(ResourceReleasePhase phase, bool isCommit, bool isTopLevel, void *arg)
{
	if (phase != RESOURCE_RELEASE_AFTER_LOCKS || !isTopLevel)
		return;
	for (int i = 0; i < n_parts; i++)
		if (parts[i]->after_locks)
			parts[i]->after_locks(isCommit);
}

void
rom_xact_register(const RomXactPart *part)
{
	int			place = n_parts;

	if (n_parts == PARTS_MAX)
		elog(ERROR, "too many participants in the ends of transactions");
	if (n_parts == 0)
	{
		RegisterXactCallback(at_xact, NULL);
		RegisterSubXactCallback(at_subxact, NULL);
		RegisterResourceReleaseCallback(at_release, NULL);
	}
	for (; place > 0 && parts[place - 1]->order > part->order; place--)
		parts[place] = parts[place - 1];
	parts[place] = part;
	n_parts++;
}
