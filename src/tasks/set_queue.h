/*-------------------------------------------------------------------------
 *
 * set_queue.h
 *		What is set for a queue: the check of a URL that serves it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_SET_QUEUE_H
#define ROM_SET_QUEUE_H

#include "utils/jsonb.h"

/*
 * Checks the URL to which the activities of a queue are to be sent, the headers of these requests (NULL: none) and the name of the secret that signs
 * them (NULL: not signed), by the rights of the queue's owner. Raises RM012, 42501 or RM010. Called as the caller, outside the engine scope.
 */
typedef void (*RomQueueCheck) (int32 namespace, const char *owner, const char *url, Jsonb *headers, const char *signing_secret);
extern void rom_set_queue_on_url(RomQueueCheck check);

#endif							/* ROM_SET_QUEUE_H */
