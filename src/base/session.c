/*-------------------------------------------------------------------------
 *
 * session.c
 *		Whose session a worker process is.
 *
 * An executor is a session of one owner's for its life. All four users that the server knows
 * (authenticated, session, outer and current) are the owner before any code of a user's runs, so that
 * a ROLLBACK, a commit that fails, RESET or a swallowed error give back the owner. Engine statements
 * switch to the extension's owner and back (spi.c), as an API call in a client's session does.
 *
 * The server's own function for this, BackgroundWorkerInitializeConnectionByOid() with a role, refuses
 * roles that may not log in (up to 16), that may not connect to the database, and counts limits (in some
 * minor versions). An owner without login is common. So the session is made as the server makes a parallel
 * worker that of its leader (ParallelWorkerMain()): the users are set before the connection, and
 * InitializingParallelWorker tells InitPostgres() that they have been decided on. Only the current user is the
 * bootstrap superuser until the connection is there, which spares the check of CONNECT; no code of a
 * user's runs in that time: session_preload_libraries are never loaded in background workers, and login
 * event triggers never fired.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "utils/guc.h"

#include "base/compat.h"
#include "base/session.h"

static bool is_worker = false;
static Oid	session_owner = InvalidOid;

/* Sets role and session authorization by their settings, so that RESET gives the same. In a transaction. */
static void
set_users(GucSource source)
{
	char	   *name = GetUserNameFromId(session_owner, true);

	/*
	 * without a name the role was dropped, and only its number is known
	 */
	if (name != NULL)
		SetConfigOption("session_authorization", name, PGC_BACKEND, source);
	SetConfigOption("role", "none", PGC_BACKEND, source);
}

void
rom_session_connect(Oid dbid, Oid owner)
{
	is_worker = true;
	if (!OidIsValid(owner))
	{
		BackgroundWorkerInitializeConnectionByOid(dbid, InvalidOid, 0);
		return;
	}

	/* no superuser, until the catalogs can tell */
	ROM_SET_AUTHENTICATED_USER(owner);
	SetSessionAuthorization(owner, false);
	SetCurrentRoleId(InvalidOid, false);
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID, 0);
	InitializingParallelWorker = true;
	BackgroundWorkerInitializeConnectionByOid(dbid, owner, ROM_BYPASS_LOGIN_CHECK);
	InitializingParallelWorker = false;
	SetUserIdAndSecContext(owner, 0);
	session_owner = owner;

	StartTransactionCommand();
	set_users(PGC_S_OVERRIDE);
	CommitTransactionCommand();
}

Oid
rom_session_owner(void)
{
	return session_owner;
}

void
rom_session_require(Oid role)
{
	if (is_worker && (role != session_owner || !OidIsValid(role)))
		elog(ERROR, "code of role %u must not run in a session of role %u", role, session_owner);
}

bool
rom_session_is(Oid role)
{
	return GetSessionUserId() == role && GetAuthenticatedUserId() == role;
}

/* Are all users the owner? */
static bool
is_owners(void)
{
	return rom_session_is(session_owner) && GetOuterUserId() == session_owner &&
		GetUserId() == session_owner;
}

void
rom_session_settle(bool all)
{
	if (is_worker)
		SetUserIdAndSecContext(GetOuterUserId(), 0);

	/*
	 * the owner of the instances was dropped: the session has no role's
	 * rights
	 */
	if (!OidIsValid(session_owner))
		return;
	if (!is_owners())
	{
		StartTransactionCommand();
		set_users(PGC_S_SESSION);
		CommitTransactionCommand();
		if (!is_owners())
			elog(FATAL, "could not make the session its owner's again");
	}
	if (all || DefaultXactReadOnly || DefaultXactDeferrable ||
		DefaultXactIsoLevel != XACT_READ_COMMITTED)
		ResetAllOptions();
}
