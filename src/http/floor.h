/*-------------------------------------------------------------------------
 *
 * floor.h
 *		The room http: what it registers with the rooms below.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_HTTP_FLOOR_H
#define ROM_HTTP_FLOOR_H

/* Called once from _PG_init. */
extern void rom_http_init(void);

#endif							/* ROM_HTTP_FLOOR_H */
