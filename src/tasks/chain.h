/*-------------------------------------------------------------------------
 *
 * chain.h
 *		What is left of a chain.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_CHAIN_H
#define ROM_CHAIN_H

#include "utils/jsonb.h"
#include "utils/uuid.h"

/* Bytes of what is copied into the row of each task of a chain. */
#define ROM_CHAIN_SHORT 1000

/* Signatures that come one after the other: members of an array, or rows of t_canvas_chain. */
typedef struct RomChain
{
	Jsonb	   *members;		/* NULL: they are rows */
	pg_uuid_t	instance_id;	/* the canvas, */
	pg_uuid_t	id;				/* and the chain in it */
	int			first;			/* place of the next one in the chain */
	int			count;			/* how many are left */
} RomChain;

/* The whole chain of a signature. */
extern void rom_chain_begin(RomChain *chain, const pg_uuid_t *instance_id, Jsonb *members);

/* The rest that a frame names (frames.c). */
extern void rom_chain_read(RomChain *chain, const pg_uuid_t *instance_id, Jsonb *frame);

/* The i-th of those that are left. Rows need the engine. */
extern Jsonb *rom_chain_member(const RomChain *chain, int i);

/* The frame of what is left after the first few, which are fewer than count. The rows of a long rest are written once. */
extern Jsonb *rom_chain_frame(const RomChain *chain, int without, const char *path, Jsonb *options);

/* Keeps a long signature for frames that name it by the text that is returned; and gives it back. */
extern char *rom_chain_keep(const pg_uuid_t *instance_id, Jsonb *signature);
extern Jsonb *rom_chain_kept(const pg_uuid_t *instance_id, const char *id);

/* Deletes the rows of canvases, a uuid[]. */
extern void rom_chain_forget(Datum ids);

#endif							/* ROM_CHAIN_H */
