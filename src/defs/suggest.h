/*-------------------------------------------------------------------------
 *
 * suggest.h
 *		Suggests a name for a misspelt one.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_SUGGEST_H
#define ROM_SUGGEST_H

/*
 * The name of a workflow or an activity (what: "workflow", "activity") that differs from name in a few letters: a
 * definition that the current user may see, or a handler in a schema of path (or NULL). NULL: there is none. Palloc'd.
 */
extern char *rom_suggest_name(int32 namespace, const char *what, const char *name, const char *path);

#endif							/* ROM_SUGGEST_H */
