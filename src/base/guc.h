/*-------------------------------------------------------------------------
 *
 * guc.h
 *		Settings of the room base. Durations are in milliseconds, unless seconds is said.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_BASE_GUC_H
#define ROM_BASE_GUC_H

#include "utils/guc.h"

extern int	rom_guc_max_payload_size;	/* bytes */

/* Reads a duration: seconds, with a unit or without, or "off", which is 0. hint may be NULL; *hint is set as parse_int() does. */
extern bool rom_guc_read_duration(const char *value, int *seconds, const char **hint);

/* The check hook of a setting that is one. (The server has no such type: a setting with a unit takes numbers only.) */
extern bool rom_guc_check_duration(char **newval, void **extra, GucSource source);

/*
 * Has the commit of this transaction wait for the disk, whatever synchronous_commit says: an attempt is about to begin,
 * and a crash of the server must not make it uncounted. In no scope that takes settings back before the commit.
 */
extern void rom_guc_outlast(void);

/* Defines them; called once from _PG_init. */
extern void rom_base_guc_init(void);

#endif							/* ROM_BASE_GUC_H */
