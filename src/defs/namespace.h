/*-------------------------------------------------------------------------
 *
 * namespace.h
 *		Namespaces, to which names belong, and the one that a session is in.
 *
 * Every name (of a definition, a channel, an event, a group, a queue, a schedule) belongs to
 * a namespace, a small integer, and so does every instance. Inside, roles trust each other's
 * names; a name never means an object of another namespace.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_NAMESPACE_H
#define ROM_NAMESPACE_H

#include "nodes/pg_list.h"
#include "utils/guc.h"

/* No namespace: not resolved, or none. Ids count from 1. */
#define ROM_NAMESPACE_NONE 0

/*
 * The namespace of the names in a call: the running instance's, inside a
 * handler or an activity; else the session's, by romancy.namespace and what is
 * granted to the current user. To be called as the caller, outside the engine
 * scope; enters it by itself, and has a superuser's own namespace made. Cached
 * until a grant, a membership, a role, the setting or the user changes. Errors:
 * 42501 where none is granted, or not the one that the setting names; RM012
 * where several are and none has the role's name.
 */
extern int32 rom_namespace_current(void);

/* The same as rom_namespace_current() for a call that defines or sets something: 42501 naming the function where the grant does not say "define". */
extern int32 rom_namespace_require_define(const char *function);

/*
 * The namespaces that are granted to the current user, or to a role that it is a member of: a list of integers, allocated in the current
 * context. To be called as the caller; enters the engine by itself.
 */
extern List *rom_namespace_granted(void);

/* May a role use romancy in a namespace: by a grant to it, or to a role that it is a member of, or as a superuser? Enters the engine by itself. */
extern bool rom_namespace_may_use(int32 id, Oid role);

/* Its name, NULL where there is none of that id. Cached, lives until the next call with the same id after a change. Enters the engine by itself. */
extern const char *rom_namespace_name(int32 id);

/*
 * Raises 42501 when owner is a superuser and a role that is none may define in the namespace: its names decide what
 * would run. Enters the engine by itself on a cache miss.
 */
extern void rom_namespace_check_owner(int32 id, Oid owner);

/*
 * Grants and takes back, for romancy.grant_usage() and romancy.revoke_usage(). name: NULL for the one named after the role, or, for
 * a revoke, for all. Engine scope needed. rom_namespace_revoke() returns whether the role has another grant.
 */
extern void rom_namespace_grant(const char *role, const char *name, bool define);
extern bool rom_namespace_revoke(const char *role, const char *name);

/* Gives the id of a namespace, which the current transaction makes unless it is there. Engine scope needed. */
extern int32 rom_namespace_make(const char *name);

/*
 * Registers a function that inserts a namespace in a transaction of its own, or returns without having done so. It is
 * called in the engine scope, for a superuser's first call.
 */
extern void rom_namespace_on_make(void (*make) (const char *name));

/* Registers a function that returns the running instance's namespace, or ROM_NAMESPACE_NONE. */
extern void rom_namespace_on_running(int32 (*running) (void));

/* The setting's check and assign hooks. */
extern bool rom_namespace_setting_check(char **newval, void **extra, GucSource source);
extern void rom_namespace_setting_changed(const char *newval, void *extra);

#endif							/* ROM_NAMESPACE_H */
