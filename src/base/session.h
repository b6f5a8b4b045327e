/*-------------------------------------------------------------------------
 *
 * session.h
 *		Whose session a worker process is.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_SESSION_H
#define ROM_SESSION_H

/*
 * Connects a worker process to database dbid, once, for its life. owner: the role whose session it
 * becomes: authenticated, session, outer and current user, with that role's settings, whether or
 * not the role may log in, connect to the database or has connections left. For a role that was
 * dropped the session has no rights. InvalidOid: no role's session; the process then runs as the
 * bootstrap superuser and must run no code of users. FATAL when the database cannot be connected
 * to.
 */
extern void rom_session_connect(Oid dbid, Oid owner);

/* The role that rom_session_connect() was given; InvalidOid: none, or this is no worker of ours. */
extern Oid	rom_session_owner(void);

/*
 * Raises an error unless code of role may run in this process: in a worker, its owner's alone. Client
 * sessions may run code of any role that they are.
 */
extern void rom_session_require(Oid role);

/* Are session and authenticated user this role? In a client's session after SET ROLE, they are not the current one. */
extern bool rom_session_is(Oid role);

/*
 * Between transactions, in a worker: makes the session its owner's again, whatever user code has set (SET ROLE,
 * SET SESSION AUTHORIZATION, defaults of transactions) outside the engine's nesting of settings. all: puts all
 * other settings back as well. FATAL when the users cannot be put back.
 */
extern void rom_session_settle(bool all);

#endif							/* ROM_SESSION_H */
