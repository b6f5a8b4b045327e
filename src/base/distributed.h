/*-------------------------------------------------------------------------
 *
 * distributed.h
 *		Beside Citus: tables of other nodes, and tables of romancy's own.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_DISTRIBUTED_H
#define ROM_DISTRIBUTED_H

/*
 * rom_distributed_begin, called at the start of a transaction in which users' code may write, has Citus, where it is
 * loaded, commit what it writes on other nodes in two phases with what is written here. Does nothing elsewhere.
 */
extern void rom_distributed_begin(void);

/* Refuses (0A000), from now on, that a table of romancy's is distributed; called from _PG_init. */
extern void rom_distributed_init(void);

#endif							/* ROM_DISTRIBUTED_H */
