/*-------------------------------------------------------------------------
 *
 * registrar.h
 *		Inserts a namespace in a transaction of its own.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_REGISTRAR_H
#define ROM_REGISTRAR_H

extern PGDLLEXPORT void rom_registrar_main(Datum arg);

/* Has namespaces made by a worker from now on; at the library's load. */
extern void rom_registrar_init(void);

#endif							/* ROM_REGISTRAR_H */
