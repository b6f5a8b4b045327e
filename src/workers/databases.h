/*-------------------------------------------------------------------------
 *
 * databases.h
 *		The databases of the cluster, as the launcher knows them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_DATABASES_H
#define ROM_DATABASES_H

/* Reads pg_database: a new database has to be visited once, the record of a dropped one is removed. */
extern void rom_databases_list(void);

/* Forgets those that are gone, and what is queued for them. */
extern void rom_databases_forget(void);

/* All of them have to be scanned for work. */
extern void rom_databases_scan(void);

#endif							/* ROM_DATABASES_H */
