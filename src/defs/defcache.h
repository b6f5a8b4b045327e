/*-------------------------------------------------------------------------
 *
 * defcache.h
 *		What the caches of workflows (definition.c) and of activities
 *		(activity_definition.c) have in common.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_DEFCACHE_H
#define ROM_DEFCACHE_H

#include "fmgr.h"
#include "utils/hsearch.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "base/errors.h"

/* A handler's function and call info: the names_changed that each was made under (rom_defcache_names()). */
typedef struct RomHandlerCache
{
	uint64		checked;		/* of the function's oid; 0: look again */
	uint64		called;			/* of *flinfo */
	MemoryContext cxt;			/* holds *flinfo and what the language keeps */
} RomHandlerCache;

/* What a name means: hashed over all of its parts, which are compared as well. */
typedef struct RomNameKey
{
	const char *name;
	int32		version;		/* of a workflow; 0: the current one */
	const char *path;			/* NULL: defined, so that the path does not
								 * matter */
	Oid			role;			/* with a path */
} RomNameKey;

/* Makes the context that entries live in, and starts listening for changes. To be called before each look-up. */
extern MemoryContext rom_defcache_prepare(void);

/* A hash table in that context. */
extern HTAB *rom_defcache_table(const char *label, Size keysize,
								Size entrysize);

/*
 * Counters, from 1, of changes of t_workflow and t_activity, and of functions and
 * schemas: what was read under another count is to be read again.
 */
extern uint64 rom_defcache_definitions(void);
extern uint64 rom_defcache_names(void);

/* Replace a field of an entry where it differs; what was there may still be in use, and stays. Row and column are of SPI_tuptable. */
extern void rom_defcache_set_text(char **field, const char *value);
extern void rom_defcache_set_interval(Interval **field, uint64 row, int col);
extern void rom_defcache_set_jsonb(Jsonb **field, Jsonb *value);

/* Keys: compared, hashed, copied into the cache's context. */
extern bool rom_defcache_same_key(const RomNameKey *a, const RomNameKey *b);
extern uint64 rom_defcache_hash_key(const RomNameKey *key);
extern void rom_defcache_copy_key(RomNameKey *to, const RomNameKey *from);

/*
 * Finds and checks the function that is stored as a signature, unless that was
 * done since the last change of any. RM001 when it is gone, RM012 when it is no handler.
 */
extern void rom_defcache_find_handler(RomHandlerCache *cache,
									  const char *signature, bool procedure,
									  const char *what, const char *name,
									  Oid *funcid);

/* Makes *flinfo for a function that was found so; returns whether it had to. Frees the one before: not to be called while that may be in use. */
extern bool rom_defcache_call_info(RomHandlerCache *cache, Oid funcid,
								   FmgrInfo **flinfo);

/* Raises RM001 for a name that is neither defined nor a function's under path (or NULL). what: workflow or activity. */
extern void rom_defcache_not_found(const char *what, const char *name, const char *path) pg_attribute_noreturn();

#endif							/* ROM_DEFCACHE_H */
