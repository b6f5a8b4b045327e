/*-------------------------------------------------------------------------
 *
 * bucket_rows.h
 *		What buckets of rate limits had left, written down in t_bucket, so that a
 *		restart does not fill them.
 *
 * Rows are added, not changed: nobody waits for another's open transaction.
 * The newest counts, and none from full_at on, when the bucket would be full again.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_BUCKET_ROWS_H
#define ROM_BUCKET_ROWS_H

#include "datatype/timestamp.h"

/* What was left in the bucket of a scope and key at an instant, as far as that is written down; false when nothing is. */
extern bool rom_bucket_rows_read(const char *scope, const char *key, double *left, TimestampTz *at);

/* Writes that down. period: after so many microseconds it is full again. Deletes a few rows that are of no use any more. */
extern void rom_bucket_rows_write(const char *scope, const char *key, double left, TimestampTz at, int64 period);

#endif							/* ROM_BUCKET_ROWS_H */
