/*-------------------------------------------------------------------------
 *
 * signature.h
 *		Signatures: what a canvas is to run, as jsonb.
 *
 *	{"task": name, "input": any}		input may be absent
 *	{"chain": [signature, ...]}
 *	{"group": [signature, ...]}
 *	{"chord": {"header": signature of a group, or array, "body": signature}}
 *
 * and in each "options": {"retry", "priority", "on_error", "immutable"}.
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

/* Reads one that was checked; in the current context. */
extern void rom_signature_read(Jsonb *json, RomSignature *signature);

/* Has one that was checked no task at all, on_error aside? Its result is []. */
extern bool rom_signature_is_empty(Jsonb *json);

/* Element i of an array. */
extern Jsonb *rom_signature_member(Jsonb *array, int i);

#endif							/* ROM_SIGNATURE_H */
