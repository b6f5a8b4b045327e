/*-------------------------------------------------------------------------
 *
 * executor.h
 *		The process that runs turns of one owner's instances in one database.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_EXECUTOR_H
#define ROM_EXECUTOR_H

extern PGDLLEXPORT void rom_executor_main(Datum arg);

#endif							/* ROM_EXECUTOR_H */
