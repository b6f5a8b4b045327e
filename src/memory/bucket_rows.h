/*-------------------------------------------------------------------------
 *
 * bucket_rows.h
 *		The contents of rate limit buckets as rows of t_bucket, so that a restart
 *		does not fill the buckets.
 *
 * Rows are added, not changed, so no transaction waits for another. The newest row counts; from its
 * full_at on the bucket is full and no row counts.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_BUCKET_ROWS_H
#define ROM_BUCKET_ROWS_H

#include "datatype/timestamp.h"

/* Reads how many tokens were left in the bucket of a scope and key, and when; false when there is no row. */
extern bool rom_bucket_rows_read(const char *scope, const char *key, double *left, TimestampTz *at);

/* Writes such a row. period: an empty bucket is full again after this many microseconds. Deletes a few rows that do not count any more. */
extern void rom_bucket_rows_write(const char *scope, const char *key, double left, TimestampTz at, int64 period);

#endif							/* ROM_BUCKET_ROWS_H */
