/*-------------------------------------------------------------------------
 *
 * signature.h
 *		Signatures: the tasks of a canvas, as jsonb.
 *
 *	{"task": name, "input": any}		input may be absent
 *	{"chain": [signature, ...]}
 *	{"group": [signature, ...]}
 *	{"chord": {"header": signature of a group, or array, "body": signature}}
 *
 * and in each "options": {"retry", "priority", "immutable", "timeout", "expires"}, which hold for all below, and
 * {"on_error", "on_success", "delay"} of its own. Intervals are strings.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_SIGNATURE_H
#define ROM_SIGNATURE_H

#include "utils/jsonb.h"

typedef enum RomSignatureKind
{
	ROM_SIGNATURE_TASK,
	ROM_SIGNATURE_CHAIN,
	ROM_SIGNATURE_GROUP,
	ROM_SIGNATURE_CHORD
} RomSignatureKind;

typedef struct RomSignature
{
	RomSignatureKind kind;
	char	   *task;
	Jsonb	   *input;			/* NULL: none */
	Jsonb	   *members;		/* array: of a chain or group, or a chord's
								 * header */
	Jsonb	   *header;			/* chord: the header, where that is a group
								 * with options of its own, else NULL */
	Jsonb	   *body;			/* chord */
	Jsonb	   *options;		/* or NULL */
} RomSignature;

/* Raises RM012, naming the path of the fault, unless json is a signature; returns how many tasks it has (callbacks too, on_error not). */
extern int64 rom_signature_check(Jsonb *json);

/*
 * The same, and calls visit for each task, callbacks, on_error and on_success too: path is where it stands in the
 * document, such as chain[1].group[0]. visit may raise errors.
 */
typedef void (*RomSignatureVisit) (const char *task, const char *path, void *arg);
extern int64 rom_signature_walk(Jsonb *json, RomSignatureVisit visit, void *arg);

/* An interval among checked options, in microseconds; 0 where there is none. */
extern int64 rom_signature_interval(Jsonb *options, const char *key);

/* Reads one that was checked; in the current context. */
extern void rom_signature_read(Jsonb *json, RomSignature *signature);

/* Does a checked signature have no task at all, on_error aside? Its result is []. */
extern bool rom_signature_is_empty(Jsonb *json);

/* Element i of an array. */
extern Jsonb *rom_signature_member(Jsonb *array, int i);

#endif							/* ROM_SIGNATURE_H */
