/*-------------------------------------------------------------------------
 *
 * fetch.h
 *		What the procedures that wait have in common.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_FETCH_H
#define ROM_FETCH_H

#include "fmgr.h"
#include "funcapi.h"
#include "utils/jsonb.h"

/* Raises 25001 where a procedure was called in a place that cannot commit. */
extern void rom_fetch_wait_check(FunctionCallInfo fcinfo, const char *procedure);

/* The row that a procedure with one INOUT argument returns. */
extern Datum rom_fetch_wait_result(TupleDesc tupdesc, Jsonb *result);

#endif							/* ROM_FETCH_H */
