/*-------------------------------------------------------------------------
 *
 * condition.h
 *		Names of SQLSTATEs, as PL/pgSQL's EXCEPTION clause knows them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_CONDITION_H
#define ROM_CONDITION_H

/* Is text a SQLSTATE ("40001"), a class of them ("40") or a condition's name ("deadlock_detected")? */
extern bool rom_condition_known(const char *text);

/* Does what text names include this SQLSTATE? A name of a class (xx000) includes the whole class. */
extern bool rom_condition_includes(const char *text, int sqlerrcode);

#endif							/* ROM_CONDITION_H */
