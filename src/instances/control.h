/*-------------------------------------------------------------------------
 *
 * control.h
 *		Whose work the tables hold: this database's, or that of one it is a copy of.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_CONTROL_H
#define ROM_CONTROL_H

/* Is this database the one that the control row names (or is it a copy)? */
extern bool rom_control_matches(void);

/* Makes it this database's, and lets workers in. */
extern void rom_control_adopt(void);

/*
 * The same, if no table of the extension holds anything that came with the
 * copy: a template without work. False if one does, or where a restored dump
 * may still bring some.
 */
extern bool rom_control_adopt_empty(void);

/*
 * Registers a function that removes stored transaction ids of another cluster, which came with a
 * dump or through pg_upgrade: all of those transactions are over. Called in engine scope; from
 * _PG_init.
 */
extern void rom_control_on_foreign_xids(void (*function) (void));

/* Before stored transaction ids are compared with this cluster's: sees to it that they are this cluster's. Engine scope needed. */
extern void rom_control_own_xids(void);

/* The version of the extension's SQL objects equals the library's. */
extern bool rom_control_version_matches(char **sql_version);

#endif
