/*-------------------------------------------------------------------------
 *
 * values.h
 *		Values that a handler puts where others read them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_VALUES_H
#define ROM_VALUES_H

#include "utils/uuid.h"

#include "turn/primitive.h"

/*
 * In a handler: is id its own instance? Then *value is what it has put under key up
 * to this call, the same on every replay, or NULL.
 */
extern bool rom_values_own(const pg_uuid_t *id, const char *key, Jsonb **value);

#endif							/* ROM_VALUES_H */
