/*-------------------------------------------------------------------------
 *
 * compat.h
 *		Differences between the server's major versions, in one place.
 *
 * Every PG_VERSION_NUM test of romancy stands here.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_COMPAT_H
#define ROM_COMPAT_H

#include "catalog/objectaccess.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "postmaster/bgworker.h"
#include "storage/lock.h"
#include "utils/acl.h"
#include "utils/guc.h"

/* 16: pg_proc_aclcheck() and its kin became object_aclcheck() (c727f511bd) */
#if PG_VERSION_NUM >= 160000
#define rom_proc_aclcheck(oid, role, mode) \
	object_aclcheck(ProcedureRelationId, (oid), (role), (mode))
#define rom_namespace_aclcheck(oid, role, mode) \
	object_aclcheck(NamespaceRelationId, (oid), (role), (mode))
#else
#define rom_proc_aclcheck(oid, role, mode) \
	pg_proc_aclcheck((oid), (role), (mode))
#define rom_namespace_aclcheck(oid, role, mode) \
	pg_namespace_aclcheck((oid), (role), (mode))
#endif

/* 16: what a setting's hooks keep is allocated by guc_malloc(), not by malloc() (407b50f2d4) */
#if PG_VERSION_NUM >= 160000
#define rom_guc_malloc(level, size) guc_malloc((level), (size))
#else
#define rom_guc_malloc(level, size) malloc(size)
#endif

/* 18: the magic block carries a name and a version (9324c8c580) */
#if PG_VERSION_NUM >= 180000
#define ROM_MODULE_MAGIC(modname, modversion) \
	PG_MODULE_MAGIC_EXT(.name = (modname), .version = (modversion))
#else
#define ROM_MODULE_MAGIC(modname, modversion) PG_MODULE_MAGIC
#endif

/*
 * A role that must be the session's authenticated user before the connection is made can be so
 * since the minor versions of November 2024 (CVE-2024-10978); the superuser's mark went with 17 (a0363ab7aa)
 */
#if PG_VERSION_NUM < 150009 || (PG_VERSION_NUM >= 160000 && PG_VERSION_NUM < 160005) || \
	(PG_VERSION_NUM >= 170000 && PG_VERSION_NUM < 170001)
/* cppcheck-suppress preprocessorErrorDirective */
#error "romancy needs PostgreSQL 15.9, 16.5, 17.1 or later"
#endif
#if PG_VERSION_NUM >= 170000
#define ROM_SET_AUTHENTICATED_USER(role) SetAuthenticatedUserId(role)
#else
#define ROM_SET_AUTHENTICATED_USER(role) SetAuthenticatedUserId((role), false)
#endif

/* 17: background workers may do without the check of LOGIN (e7689190b3) */
#ifdef BGWORKER_BYPASS_ROLELOGINCHECK
#define ROM_BYPASS_LOGIN_CHECK BGWORKER_BYPASS_ROLELOGINCHECK
#else
#define ROM_BYPASS_LOGIN_CHECK 0
#endif

/* palloc_array and palloc_object came with 16 and late minors of 15 */
#ifndef palloc_array
#define palloc_array(type, count) ((type *) palloc(sizeof(type) * (count)))
#define palloc0_array(type, count) ((type *) palloc0(sizeof(type) * (count)))
#define palloc_object(type) ((type *) palloc(sizeof(type)))
#define palloc0_object(type) ((type *) palloc0(sizeof(type)))
#endif

/* 17: MyBackendId became MyProcNumber (024c521117) */
#if PG_VERSION_NUM >= 170000
#define ROM_PROC_NUMBER() ((int) MyProcNumber)
#else
#define ROM_PROC_NUMBER() ((int) MyProc->pgprocno)
#endif

/* 18: PortalRun() lost run_once (3eea7a0c97) */
#if PG_VERSION_NUM >= 180000
#define rom_portal_run(portal, dest) \
	PortalRun((portal), FETCH_ALL, true, (dest), (dest), NULL)
#else
#define rom_portal_run(portal, dest) \
	PortalRun((portal), FETCH_ALL, true, true, (dest), (dest), NULL)
#endif

/* 16: the server's settings are in a hash table (3057465acf) */
#if PG_VERSION_NUM >= 160000
#define rom_guc_variables(n) get_guc_variables(n)
#define ROM_GUC_LIST_IS_MADE true	/* for each call */
#else
#define rom_guc_variables(n) (*(n) = GetNumConfigOptions(), get_guc_variables())
#define ROM_GUC_LIST_IS_MADE false
#endif

/* 17: one function says whether a lock, or a stronger one, is held; before, only some minor versions have it */
#if PG_VERSION_NUM < 170000
static inline bool
rom_lock_held(const LOCKTAG *tag, LOCKMODE mode)
{
	for (; mode <= MaxLockMode; mode++)
		if (LockHeldByMe(tag, mode))
			return true;
	return false;
}
#else
#define rom_lock_held(tag, mode) LockHeldByMe(tag, mode, true)
#endif

/* 16: a process's locks are in lists of another kind (12605414a7) */
#if PG_VERSION_NUM >= 160000
#define rom_first_proclock(list) \
	(dlist_is_empty(list) ? NULL : dlist_head_element(PROCLOCK, procLink, (list)))
#define rom_next_proclock(list, lock) \
	(dlist_has_next((list), &(lock)->procLink) ? \
	 dlist_container(PROCLOCK, procLink, dlist_next_node((list), &(lock)->procLink)) : NULL)
#else
#define rom_first_proclock(list) \
	((PROCLOCK *) SHMQueueNext((list), (list), offsetof(PROCLOCK, procLink)))
#define rom_next_proclock(list, lock) \
	((PROCLOCK *) SHMQueueNext((list), &(lock)->procLink, offsetof(PROCLOCK, procLink)))
#endif

/* 16: an update tells which indexes need entries (19d8e2308b) */
#if PG_VERSION_NUM < 160000
#define TU_UpdateIndexes bool
#define TU_None false
#define rom_only_summarizing(update) false
#define rom_index_is_summarizing(info) false
#else
#define rom_only_summarizing(update) ((update) == TU_Summarizing)
#define rom_index_is_summarizing(info) ((info)->ii_Summarizing)
#endif

/* 17: what an index's access method keeps between inserts is given back (c1ec02be1d) */
#if PG_VERSION_NUM >= 170000
#define rom_index_insert_end(index, info) index_insert_cleanup((index), (info))
#else
#define rom_index_insert_end(index, info) ((void) 0)
#endif

/* 18: index scans are instrumented (0fbceae841) */
#if PG_VERSION_NUM >= 180000
#define rom_index_beginscan(rel, index, snapshot, nkeys) \
	index_beginscan((rel), (index), (snapshot), NULL, (nkeys), 0)
#else
#define rom_index_beginscan(rel, index, snapshot, nkeys) \
	index_beginscan((rel), (index), (snapshot), (nkeys), 0)
#endif

/* 18: a primary key that is deferrable counts only where that is said */
#if PG_VERSION_NUM >= 180000
#define ROM_PRIMARY_KEY(rel) RelationGetPrimaryKeyIndex((rel), false)
#else
#define ROM_PRIMARY_KEY(rel) RelationGetPrimaryKeyIndex(rel)
#endif

/* 18: a lock that is not to be had can be logged (6d376c3b0d) */
#if PG_VERSION_NUM >= 180000
#define rom_lock_tuple_conditional(rel, tid, mode) \
	ConditionalLockTuple((rel), (tid), (mode), false)
#else
#define rom_lock_tuple_conditional(rel, tid, mode) \
	ConditionalLockTuple((rel), (tid), (mode))
#endif

/* 17: custom wait events (c9af054653) */
#if PG_VERSION_NUM >= 170000
#define ROM_WAIT_EVENT(name) WaitEventExtensionNew(name)
#else
#define ROM_WAIT_EVENT(name) PG_WAIT_EXTENSION
#endif

/* 17: a set of wait events belongs to a resource owner (50c67c2019) */
#if PG_VERSION_NUM >= 170000
#define ROM_CREATE_WAIT_EVENT_SET(n) CreateWaitEventSet(NULL, n)
#else
#define ROM_CREATE_WAIT_EVENT_SET(n) CreateWaitEventSet(TopMemoryContext, n)
#endif

#endif							/* ROM_COMPAT_H */
