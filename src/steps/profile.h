/*-------------------------------------------------------------------------
 *
 * profile.h
 *		What is known of how activities and handlers run, in shared memory.
 *
 * Every executor reads and writes the same profiles, so that one learns from
 * another. A profile belongs to the function's body as it is now: a function that is
 * replaced begins with an empty one.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_PROFILE_H
#define ROM_PROFILE_H

#include "datatype/timestamp.h"

typedef enum RomProfileKind
{
	ROM_PROFILE_ACTIVITY,		/* object: its function */
	ROM_PROFILE_WORKFLOW,		/* object: its version (def_id) */
	ROM_PROFILE_FIRST,			/* first turns of a version; one that does not
								 * end its instance has failed */
	ROM_PROFILE_TASK,			/* object: hash of an activity's name, for
								 * those who schedule it without looking at
								 * its function */
	ROM_PROFILE_LOOKS			/* turns of a version look at the rows of
								 * instances: there is one, or there is none */
} RomProfileKind;

/* The kind of object that a profile describes. */
typedef struct RomProfileKey
{
	Oid			dbid;
	int32		namespace;
	int64		kind;			/* RomProfileKind */
	uint64		object;
	uint64		body;			/* hash of the function's body */
} RomProfileKey;

/* Microseconds: an activity, or a first turn, that takes longer usually is not quick. */
#define ROM_QUICK_US 5000

/* How a run ended. */
typedef enum RomProfileEnd
{
	ROM_PROFILE_OK,
	ROM_PROFILE_FAILED,
	ROM_PROFILE_DISTURBED		/* it waited for a lock, or was torn out of a
								 * shared transaction */
} RomProfileEnd;

/* rom_profile_init registers the shared memory; called from _PG_init. */
extern void rom_profile_init(void);

/* rom_profile_note adds a run of us microseconds. Spinlock only, does not raise. */
extern void rom_profile_note(const RomProfileKey *key, int64 us, RomProfileEnd end);

/*
 * rom_profile_quick says whether it is known to take less than us microseconds usually, and to
 * succeed nearly always. False while it is unknown, and without shared memory.
 */
extern bool rom_profile_quick(const RomProfileKey *key, int64 us);

/* rom_profile_exists says whether there is any. */
extern bool rom_profile_exists(const RomProfileKey *key);

/* rom_profile_short says the same of the time alone. */
extern bool rom_profile_short(const RomProfileKey *key, int64 us);

/* rom_profile_slow says whether it is known to take us microseconds or more. */
extern bool rom_profile_slow(const RomProfileKey *key, int64 us);

/* rom_profile_forget forgets a database (dropped, or without the extension). */
extern void rom_profile_forget(Oid dbid);

#endif							/* ROM_PROFILE_H */
