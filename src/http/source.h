/*-------------------------------------------------------------------------
 *
 * source.h
 *		Queues that have requests to send.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_HTTP_SOURCE_H
#define ROM_HTTP_SOURCE_H

#include "utils/jsonb.h"
#include "utils/timestamp.h"

typedef struct RomSource
{
	char	   *queue;			/* as stored in t_task */
	int32		namespace;
	int			sharers;		/* of the room it has this part: namespaces
								 * are equal, and so are the queues of one */
	/* of a queue that is served by a URL */
	char	   *url;			/* NULL: HTTP activities */
	Oid			owner;
	Jsonb	   *headers;		/* NULL: none */
	char	   *signing_secret; /* its name; NULL: not signed */
} RomSource;

/* Finds them, in the current context; how many. Enters the engine by itself. */
extern int	rom_source_find(RomSource **sources);

/* The tasks of one cannot be claimed: tells the log, and says when to try again. */
extern TimestampTz rom_source_faulty(const RomSource *source, const ErrorData *edata);

#endif							/* ROM_HTTP_SOURCE_H */
