/*-------------------------------------------------------------------------
 *
 * borrowed.h
 *		Objects that code of a drain's owner may not leave in a session of another
 *		role.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_BORROWED_H
#define ROM_BORROWED_H

/* rom_borrowed_begin notes, before a turn of owner's instance in this session, what is there. */
extern void rom_borrowed_begin(Oid owner);

/*
 * rom_borrowed_end looks, after the turn and in the same transaction, whether something is left that would run
 * later, as the role whose session it is: 42501.
 */
extern void rom_borrowed_end(void);

/* rom_borrowed_reset undoes what rom_borrowed_begin() changed, after an error. */
extern void rom_borrowed_reset(void);

#endif							/* ROM_BORROWED_H */
