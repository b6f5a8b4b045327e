/*-------------------------------------------------------------------------
 *
 * xact.h
 *		Callbacks at the ends of transactions: one registration with the server, a
 *		table of participants in the order in which they run, and the notes that they
 *		take, each of which stands or falls with its subtransaction.
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

/* A note of a participant begins with this. */
typedef struct RomNote
{
	int			level;			/* nest level of the subtransaction with which
								 * it stands or falls */
} RomNote;

/* The stack of a participant's notes in the transaction: an array, and no note has a lower level than the one before it. */
typedef struct RomNotes
{
	Size		size;			/* of a note; all else begins as zeros */
	void	   *array;			/* in TopMemoryContext */
	int			count;
	int			room;
} RomNotes;

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
	void		(*sub_aborted) (int level);
	RomNotes   *notes;			/* its notes, or NULL; of an abort, or the
								 * abort of a subtransaction, */
	void		(*undo) (void *note);	/* each is undone, the newest first, */
	void		(*undone) (void);	/* and this is called, if there were any */
	void		(*joined) (int first);	/* a subtransaction committed: the
										 * notes from first on are of the one
										 * around it now */
} RomXactPart;

/* Adds a participant, which stays where it is; called from _PG_init. */
extern void rom_xact_register(const RomXactPart *part);

/* Makes room for n more notes, so that rom_xact_note() does not allocate. */
extern void rom_xact_reserve(RomNotes *notes, int n);

/* Adds a note of this level, which is all zeros but for that. */
extern void *rom_xact_note(RomNotes *notes, int level);

/* Undoes the notes from number first on, as an abort does. */
extern void rom_xact_undo(const RomXactPart *part, int first);

/* Drops all notes: their actions are done, or will not be done. */
extern void rom_xact_forget(RomNotes *notes);

#endif							/* ROM_XACT_H */
