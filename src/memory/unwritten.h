/*-------------------------------------------------------------------------
 *
 * unwritten.h
 *		Errors of the engine in turns that could not be written into the instance's row, in shared memory.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_UNWRITTEN_H
#define ROM_UNWRITTEN_H

#include "datatype/timestamp.h"
#include "utils/uuid.h"

#define ROM_UNWRITTEN_TEXT 200

typedef struct RomUnwritten
{
	Oid			dbid;			/* invalid: none */
	pg_uuid_t	instance;
	TimestampTz at;
	TimestampTz until;			/* it is tried again then */
	int			tries;
	int			code;			/* SQLSTATE of the error, as errcode() has it */
	int			why;			/* and of what kept it from being written */
	char		message[ROM_UNWRITTEN_TEXT];	/* of the error, cut */
} RomUnwritten;

/* Notes one of this database (dbid, at are set here). The oldest gives way. */
extern void rom_unwritten_note(const RomUnwritten *error);

/* Those of this database, in any order, the last one of each instance; palloc'd. */
extern RomUnwritten *rom_unwritten_list(int *n);

extern void rom_unwritten_init(void);

#endif							/* ROM_UNWRITTEN_H */
