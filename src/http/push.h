/*-------------------------------------------------------------------------
 *
 * push.h
 *		Requests of queues whose activities are served by a URL.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_HTTP_PUSH_H
#define ROM_HTTP_PUSH_H

#include "http/request.h"
#include "http/source.h"

/*
 * Makes the request of a task of such a queue, in the current context. False with *error where it must not or cannot be sent. Enters the engine by
 * itself. It may raise errors, too.
 */
extern bool rom_push_make(const RomSource *source, const RomTask *task, RomHttpRequest *request, Jsonb **error);

/* Registers the check of set_queue(); called once from rom_http_init(). */
extern void rom_push_init(void);

#endif							/* ROM_HTTP_PUSH_H */
