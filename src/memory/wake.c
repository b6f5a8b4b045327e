/*-------------------------------------------------------------------------
 *
 * wake.c
 *		Notes taken in a transaction about what it makes ready, published to
 *		shared memory after its commit.
 *
 * XACT_EVENT_COMMIT arms the notes; they are published when the resource owner is
 * released after the locks: before that, an executor that is woken would find the
 * rows locked, and could miss the catalog invalidations of the same commit. Code
 * that runs there must not raise, and waits for nothing but spinlocks.
 *
 * PREPARE TRANSACTION drops the notes, and leaves a lock as a mark that there
 * were some; COMMIT PREPARED finds it and asks for a scan (workers/utility.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "memory/fanin.h"
#include "memory/ready.h"
#include "memory/roster.h"
#include "memory/shmem.h"
#include "memory/slot.h"
#include "memory/waiter.h"
#include "memory/wake.h"
#include "memory/xact.h"

/* Of a transaction that notes more instances, the rest is found by a scan. */
#define NOTES_MAX 4096
#define CHUNK 32

/* As in workers/sweeps.c, with another key. */
#define PREPARED_KEY 0x524F4D02
#define LOCK_KIND 3

typedef enum NoteKind
{
	NOTE_READY,
	NOTE_AT,
	NOTE_CANCEL,
	NOTE_SCAN,
	NOTE_ANNOUNCE,
	NOTE_LIST,
	NOTE_SWEEP,
	NOTE_KEY,
	NOTE_ONE,
	NOTE_END,
	NOTE_CALL
} NoteKind;

typedef struct Note
{
	RomNote		note;
	NoteKind	kind;
	pg_uuid_t	id;
	Oid			owner;
	int32		priority;		/* or the number of a sweep */
	bool		slow;			/* RomReadyItem's, as the next */
	bool		unknown;
	union
	{
		TimestampTz due;
		uint64		key;
		pg_uuid_t	fanin;
		struct
		{
			RomWakeFunction function;
			void	   *arg;
		}			call;
	}			u;
} Note;

static RomNotes notes = {.size = sizeof(Note)};
static bool armed = false;
static bool has_cancels = false;

/* note_at is note number i. */
static Note *
note_at(int i)
{
	return (Note *) notes.array + i;
}

/* newest is the newest note if it is of this kind, else NULL. */
static Note *
newest(NoteKind kind)
{
	return notes.count > 0 && note_at(notes.count - 1)->kind == kind ? note_at(notes.count - 1) : NULL;
}

static void
forget(void)
{
	rom_xact_forget(&notes);
	armed = false;
	has_cancels = false;
}

/* A new note, zeroed; NULL where notes go nowhere. */
static Note *
add_note(NoteKind kind)
{
	Note	   *note;

	if (!rom_shmem_available() || IsParallelWorker() || !IsTransactionState())
		return NULL;
	note = rom_xact_note(&notes, GetCurrentTransactionNestLevel());
	note->kind = kind;
	return note;
}

/* note_instance adds a note about an instance or a task; NULL where it goes nowhere, or a scan is to find what there is. */
static Note *
note_instance(NoteKind kind, const pg_uuid_t *id, Oid owner, int32 priority,
			  TimestampTz due)
{
	Note	   *note;

	if (notes.count >= NOTES_MAX)
	{
		if (newest(NOTE_SCAN) == NULL)
			add_note(NOTE_SCAN);
		return NULL;
	}
	note = add_note(kind);
	if (note == NULL)
		return NULL;
	note->id = *id;
	note->owner = owner;
	note->priority = priority;
	note->u.due = due;
	return note;
}

void
rom_wake_ready(const pg_uuid_t *id, Oid owner, int32 priority)
{
	(void) note_instance(NOTE_READY, id, owner, priority, 0);
}

void
rom_wake_slow(const pg_uuid_t *id, Oid owner, int32 priority)
{
	Note	   *note = note_instance(NOTE_READY, id, owner, priority, 0);

	if (note != NULL)
		note->slow = true;
}

void
rom_wake_unknown(const pg_uuid_t *id, Oid owner, int32 priority)
{
	Note	   *note = note_instance(NOTE_READY, id, owner, priority, 0);

	if (note != NULL)
		note->unknown = true;
}

void
rom_wake_at(const pg_uuid_t *id, Oid owner, int32 priority, TimestampTz due)
{
	if (due < DT_NOEND)
		(void) note_instance(NOTE_AT, id, owner, priority, due);
}

void
rom_wake_cancel(const pg_uuid_t *id)
{
	Note	   *note = add_note(NOTE_CANCEL);

	has_cancels = true;
	if (note != NULL)
		note->id = *id;
}

bool
rom_wake_has_cancels(void)
{
	return has_cancels;
}

void
rom_wake_scan(void)
{
	add_note(NOTE_SCAN);
}

void
rom_wake_announce(void)
{
	add_note(NOTE_ANNOUNCE);
}

void
rom_wake_list(void)
{
	add_note(NOTE_LIST);
}

void
rom_wake_sweep(int sweep, TimestampTz due)
{
	Note	   *note = add_note(NOTE_SWEEP);

	if (note != NULL)
	{
		note->priority = sweep;
		note->u.due = due;
	}
}

void
rom_wake_key(uint64 key)
{
	Note	   *note = add_note(NOTE_KEY);

	if (note != NULL)
		note->u.key = key;
}

void
rom_wake_one(uint64 key)
{
	Note	   *note = newest(NOTE_ONE);

	/* things of one kind are noted in a row: count them in one note */
	if (note != NULL && note->u.key == key && note->note.level == GetCurrentTransactionNestLevel())
	{
		note->priority++;
		return;
	}
	note = add_note(NOTE_ONE);
	if (note != NULL)
	{
		note->u.key = key;
		note->priority = 1;
	}
}

void
rom_wake_end(const pg_uuid_t *key, const pg_uuid_t *instance, Oid owner,
			 int32 priority)
{
	Note	   *note = add_note(NOTE_END);

	if (note != NULL)
	{
		note->id = *instance;
		note->owner = owner;
		note->priority = priority;
		note->u.fanin = *key;
	}
}

void
rom_wake_call(RomWakeFunction function, const void *arg, Size len)
{
	Note	   *note = add_note(NOTE_CALL);

	if (note != NULL)
	{
		note->u.call.function = function;
		note->u.call.arg = MemoryContextAlloc(TopTransactionContext, len);
		memcpy(note->u.call.arg, arg, len);
	}
}

/* Publishes the notes. The transaction is committed and its locks are gone. */
static void
publish(void)
{
	TimestampTz now = GetCurrentTimestamp();
	RomReadyItem items[CHUNK];
	int			nitems = 0;
	int			i;

	for (i = 0; i < notes.count; i++)
	{
		Note	   *note = note_at(i);

		switch (note->kind)
		{
			case NOTE_READY:
			case NOTE_AT:
				items[nitems].id = note->id;
				items[nitems].dbid = MyDatabaseId;
				items[nitems].owner = note->owner;
				items[nitems].priority = note->priority;
				items[nitems].slow = note->slow;
				items[nitems].unknown = note->unknown;
				items[nitems].at = note->kind == NOTE_READY ? now : note->u.due;
				if (++nitems == CHUNK)
				{
					rom_ready_put(items, nitems, now);
					nitems = 0;
				}
				break;
			case NOTE_CANCEL:
				rom_slot_cancel(&note->id);
				break;
			case NOTE_SCAN:
			case NOTE_ANNOUNCE:
				rom_roster_scan(MyDatabaseId, note->kind == NOTE_ANNOUNCE);
				break;
			case NOTE_LIST:
				rom_roster_tell(ROM_TELL_LIST);
				break;
			case NOTE_SWEEP:
				rom_roster_sweep(MyDatabaseId, note->priority, note->u.due);
				break;
			case NOTE_CALL:
				note->u.call.function(note->u.call.arg);
				break;
			case NOTE_KEY:
				rom_waiter_notify(note->u.key);
				break;
			case NOTE_ONE:
				rom_waiter_notify_some(note->u.key, note->priority);
				break;
			case NOTE_END:
				if (!rom_fanin_end(&note->u.fanin))
					break;
				items[nitems].id = note->id;
				items[nitems].dbid = MyDatabaseId;
				items[nitems].owner = note->owner;
				items[nitems].priority = note->priority;
				items[nitems].slow = items[nitems].unknown = false;
				items[nitems].at = now;
				if (++nitems == CHUNK)
				{
					rom_ready_put(items, nitems, now);
					nitems = 0;
				}
				break;
		}
	}
	if (nitems > 0)
		rom_ready_put(items, nitems, now);
}

/* The lock that a prepared transaction holds whose notes are lost: of a kind that SQL functions cannot take. */
static void
prepared_tag(LOCKTAG *tag)
{
	SET_LOCKTAG_ADVISORY(*tag, MyDatabaseId, PREPARED_KEY, 0, LOCK_KIND);
}

/* The transaction is about to be prepared: its lock tells, even after a restart, that it made something ready. */
static void
mark_prepared(void)
{
	LOCKTAG		tag;

	prepared_tag(&tag);
	(void) LockAcquire(&tag, ShareLock, false, false);
}

bool
rom_wake_prepared(void)
{
	LOCKTAG		tag;

	prepared_tag(&tag);
	if (LockAcquire(&tag, ExclusiveLock, false, true) == LOCKACQUIRE_NOT_AVAIL)
		return true;
	LockRelease(&tag, ExclusiveLock, false);
	return false;
}

static void
committed(void)
{
	armed = notes.count > 0;

}

/* pre_commit leaves a mark for the process that will run COMMIT PREPARED. */
static void
pre_commit(bool prepare)
{
	if (prepare && notes.count > 0)
		mark_prepared();
}

static void
after_locks(bool commit)
{
	if (!armed)
		return;
	armed = false;
	if (commit)
		publish();
	forget();
}

void
rom_wake_init(void)
{
	static const RomXactPart part = {
		.name = "wake-ups",
		.order = ROM_XACT_WAKE,
		.pre_commit = pre_commit,
		.committed = committed,
		.prepared = forget,
		.aborted = forget,
		.after_locks = after_locks,
		.notes = &notes,
	};

	rom_xact_register(&part);
}
