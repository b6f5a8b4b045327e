/*-------------------------------------------------------------------------
 *
 * execute.h
 *		Tasks that run in the database.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_EXECUTE_H
#define ROM_EXECUTE_H

/* Registers with the engine; called once from _PG_init. */
extern void rom_execute_init(void);

#endif							/* ROM_EXECUTE_H */
