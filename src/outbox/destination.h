/*-------------------------------------------------------------------------
 *
 * destination.h
 *		Destinations: where the events of a namespace go.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_OUTBOX_DESTINATION_H
#define ROM_OUTBOX_DESTINATION_H

#include "defs/retry.h"
#include "utils/jsonb.h"

/* Longest name of a destination, in bytes: it is indexed. The name "" is of the one that is always there. */
#define ROM_DESTINATION_MAX 200

/* The prefix of the types of the engine's own events. */
#define ROM_DESTINATION_ENGINE "romancy."

/* How a destination orders events that bring no key. */
typedef enum RomOrdered
{
	ROM_ORDERED_NOT,
	ROM_ORDERED_ALL,			/* all of its events, whatever keys they bring */
	ROM_ORDERED_SOURCE,
	ROM_ORDERED_SUBJECT,
	ROM_ORDERED_TYPE
} RomOrdered;

/* How requests carry events: the formats of CloudEvents. */
typedef enum RomFormat
{
	ROM_FORMAT_STRUCTURED,		/* the body is the event, a JSON document */
	ROM_FORMAT_BINARY,			/* attributes are headers, the body is the
								 * data */
	ROM_FORMAT_BATCH			/* the body is a JSON array of events */
} RomFormat;

/* A destination as a sender needs it. */
typedef struct RomDestination
{
	int32		id;				/* its events belong to, while it is there */
	char	   *name;
	char	   *owner;
	bool		sent;			/* it has a URL: the server sends its events */
	RomOrdered	ordered;
	int			ntypes;			/* 0: only events that name it */
	char	  **types;			/* patterns */
} RomDestination;

/*
 * The destinations of a namespace, by name; *n of them. From the session's cache, which follows changes of the table; they live until the
 * next call. Enters the engine by itself.
 */
extern const RomDestination *rom_destination_list(int32 namespace, int *n);

/* The one of that name, or NULL. Of the same cache. */
extern const RomDestination *rom_destination_find(int32 namespace, const char *name);

/* Counts changes of destinations: what is remembered of them is good as long as it stays the same. */
extern uint64 rom_destination_changes(void);

/* Does one of its patterns match the type? Of types that begin with "romancy.", the engine's own, only one that begins like that. */
extern bool rom_destination_wants(const RomDestination *destination, const char *type);

/* Does a type, or a pattern, begin as those of the engine do? */
extern bool rom_destination_is_engine_type(const char *type);

/* May the role do what the owner of the destination may? False for NULL, the destination that has no owner. */
extern bool rom_destination_is_owner(const RomDestination *destination, Oid role);

/* Reads the name of a format; false when it is none. */
extern bool rom_destination_format(const char *name, RomFormat *format);

/*
 * The check of a destination's URL, its headers (NULL: none) and the name of its signing secret (NULL: none), which the room http registers: raises
 * RM012 that names the argument, RM010 where the server cannot send, 42501 where the current user's events must not go there.
 */
typedef void (*RomDestinationCheck) (int32 namespace, const char *url, Jsonb *headers, const char *signing_secret);
extern void rom_destination_on_url(RomDestinationCheck check);

/* The retry policy of a destination, by its stored keys (NULL: none). Attempts are romancy.outbox_max_attempts unless a key says otherwise. */
extern void rom_destination_policy(Jsonb *retry, RomRetryPolicy *policy);

#endif							/* ROM_OUTBOX_DESTINATION_H */
