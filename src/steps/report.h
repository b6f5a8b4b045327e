/*-------------------------------------------------------------------------
 *
 * report.h
 *		Progress that a workflow or an activity reports.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_REPORT_H
#define ROM_REPORT_H

#include "fmgr.h"

#include "memory/progress.h"

/* Reads arguments done (number n) and total; 22004, 22023. */
extern void rom_report_read(FunctionCallInfo fcinfo, int n, RomProgress *progress);

/* Makes a report (done and total are set) visible to others, with a note or NULL. It is no part of the transaction. */
extern void rom_report_put(const pg_uuid_t *id, int32 namespace, RomProgress *progress, const char *note);

#endif							/* ROM_REPORT_H */
