/*-------------------------------------------------------------------------
 *
 * guc.h
 *		Settings of the room http.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_HTTP_GUC_H
#define ROM_HTTP_GUC_H

extern int	rom_guc_http_max_in_flight;
extern int	rom_guc_http_max_response;
extern int	rom_guc_http_timeout;
extern char *rom_guc_http_ca_file;

/* Defines them; called once from _PG_init. */
extern void rom_http_guc_init(void);

#endif							/* ROM_HTTP_GUC_H */
