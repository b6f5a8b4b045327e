/*-------------------------------------------------------------------------
 *
 * xact.h
 *		What runs at the ends of transactions: one registration with the server, and a
 *		table of participants in the order in which they run.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_XACT_H
#define ROM_XACT_H

/* When a participant runs, among the others; the server's own order of callbacks plays no part. */
typedef enum RomXactOrder
{
	ROM_XACT_WATCH,				/* looks at what is about to go */
	ROM_XACT_GIVE_BACK,			/* places and tokens are free again, */
	ROM_XACT_COUNT,				/* statistics count, */
	ROM_XACT_LET_READ,			/* others may remember again what they read, */
	ROM_XACT_WAKE				/* and then others are woken */
} RomXactOrder;

/*
 * A participant; NULL where it does nothing. Only pre_commit may raise an error, allocate or wait: after it the
 * transaction is decided. level: nest level of the subtransaction.
 */
typedef struct RomXactPart
{
	const char *name;			/* for readers */
	RomXactOrder order;
	void		(*pre_commit) (bool prepare);	/* before COMMIT, or PREPARE */
	void		(*committed) (void);	/* the commit is recorded, the locks
										 * are held */
	void		(*prepared) (void);
	void		(*aborted) (void);	/* also the end of a parallel worker's */
	void		(*after_locks) (bool commit);	/* the locks are released */
	void		(*sub_began) (int level);
	void		(*sub_committed) (int level);
	void		(*sub_aborted) (int level);
} RomXactPart;

/* Adds a participant, which stays where it is; called from _PG_init. */
extern void rom_xact_register(const RomXactPart *part);

#endif							/* ROM_XACT_H */
