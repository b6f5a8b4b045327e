/*-------------------------------------------------------------------------
 *
 * hold.c
 *		Ready work that a session runs itself and does not hand to the workers.
 *
 * A drain keeps its hands on what it has begun: what its transactions make ready of its owner's is found by
 * its next look into the tables. An executor that took it meanwhile would run it at the time of the wall clock, where
 * the drain runs it at the time that it has advanced to. Nothing is lost when
 * the process ends in between: the tables hold it, and a scan finds it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"

#include "memory/hold.h"
#include "memory/roster.h"

static Oid	held_owner = InvalidOid;	/* of whom this process holds back
										 * ready work */
static bool held_back = false;	/* something was */

/* leave: the process ends in the middle of it. */
static void
leave(int code, Datum arg)
{
	rom_hold_end(false);
}

void
rom_hold_begin(Oid owner)
{
	static bool exit_hooked = false;

	if (!exit_hooked)
	{
		before_shmem_exit(leave, 0);
		exit_hooked = true;
	}
	held_owner = owner;
	held_back = false;
}

void
rom_hold_end(bool nothing_left)
{
	held_owner = InvalidOid;
	if (held_back && !nothing_left)
		rom_roster_scan(MyDatabaseId, false);
	held_back = false;
}

bool
rom_hold_keeps(Oid dbid, Oid owner, TimestampTz at, TimestampTz now)
{
	if (!OidIsValid(held_owner) || owner != held_owner || dbid != MyDatabaseId || at > now)
		return false;
	held_back = true;
	return true;
}
