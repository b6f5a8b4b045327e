/*-------------------------------------------------------------------------
 *
 * arrival.h
 *		Messages for which instances wait, which do not come through their inbox: how a turn asks
 *		the room that knows them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_ARRIVAL_H
#define ROM_ARRIVAL_H

#include "turn/primitive.h"

typedef struct RomArrival
{
	/*
	 * Would a turn of an instance that was woken find nothing new? Asked
	 * before it is run, when neither its inbox nor its clock calls for a
	 * turn.
	 */
	bool		(*in_vain) (RomTurn *turn);

	/*
	 * An instance with subscriptions had a turn: a message for which it was
	 * woken and that it did not take is offered to another receiver.
	 */
	void		(*pass_on) (RomTurn *turn);

	/*
	 * For drain: waiting instances of this owner for which something has
	 * arrived, at most max. In engine scope.
	 */
	int			(*find) (const char *owner, pg_uuid_t *ids, int max);

	/*
	 * All waiting instances have to be examined: the ready queue may have
	 * lost some.
	 */
	void		(*scan) (void);
} RomArrival;

/* Registered once, from _PG_init; NULL in an engine alone. */
extern void rom_arrival_register(const RomArrival *arrival);
extern const RomArrival *rom_arrival(void);

#endif							/* ROM_ARRIVAL_H */
