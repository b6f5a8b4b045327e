/*-------------------------------------------------------------------------
 *
 * steer.h
 *		Requests to instances, as the current user.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_STEER_H
#define ROM_STEER_H

#include "utils/uuid.h"

#include "instances/inbox.h"
#include "instances/instance.h"

/*
 * Puts a cancel, terminate, pause or resume into the instance's inbox and
 * notes its wake-up. False, and nothing done, when the caller's snapshot shows it
 * in a state that the request does not fit. Error RM002 when there is no such instance, or it is another role's.
 * Enters the engine by itself.
 */
extern bool rom_steer_request(const pg_uuid_t *id, RomInboxKind kind,
							  const char *reason);

/* The columns of an instance's row that steering and reading need. */
typedef struct RomInstanceHead
{
	RomStatus	status;
	Oid			owner;			/* InvalidOid when that role was dropped */
	char	   *owner_name;
	int32		priority;
	int32		flags;
	int64		last_seq;
} RomInstanceHead;

/*
 * Reads it, for a caller that is to steer it or only to read; RM002 when there is none or the current
 * user may not. Enters the engine by itself; call it outside of one.
 */
extern void rom_steer_head(const pg_uuid_t *id, bool steer,
						   RomInstanceHead *head);

/* Raises RM002 for id. */
extern void rom_steer_missing(const pg_uuid_t *id);

/* rom_steer_detail makes the detail of a request: the caller, the reason and the time. */
extern Jsonb *rom_steer_detail(const char *reason);

/*
 * rom_steer_fits says whether a request makes sense: for a pause or a resume, once what is in the inbox
 * is applied. status: as the caller has seen it. Engine scope needed.
 */
extern bool rom_steer_fits(const pg_uuid_t *id, RomInboxKind kind, RomStatus status);

/* rom_steer_wake notes that the instance has something in its inbox. */
extern void rom_steer_wake(const pg_uuid_t *id, const RomInstanceHead *head, RomInboxKind kind);

/*
 * rom_steer_retry makes a failed instance pending, if no other transaction
 * changes it at the moment. *flags: as of the locked row. Engine scope needed.
 */
extern bool rom_steer_retry(const pg_uuid_t *id, Jsonb *detail, int32 *flags);

/* rom_steer_retry_detail makes the detail of a retry: its caller. */
extern Jsonb *rom_steer_retry_detail(void);

#endif							/* ROM_STEER_H */
