/*-------------------------------------------------------------------------
 *
 * resume.h
 *		The net under lost wake-ups of tasks in the database.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_RESUME_H
#define ROM_RESUME_H

/* Registers the scan and the sweep resumption; called once from _PG_init. */
extern void rom_resume_init(void);

#endif							/* ROM_RESUME_H */
