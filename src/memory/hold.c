/*-------------------------------------------------------------------------
 *
 * hold.c
 *		Ready work that a session runs itself and does not hand to the workers.
 *
 * Instances of its owner that a drain's transactions make ready are not
 * published: the drain finds them when it reads the tables next. An executor
 * that took one meanwhile would run it at the time of the wall clock, where the
 * drain runs it at the time to which it has advanced. If the process ends in
 * between, a scan finds the instances in the tables.
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
