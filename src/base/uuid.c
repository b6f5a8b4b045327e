/*-------------------------------------------------------------------------
 *
 * uuid.c
 *		Uuids: new ones, their text, arrays of them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <time.h>

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/fmgrprotos.h"

#include "base/uuid.h"

/*
 * Many are made at a time: a call of the library's for eight bytes costs about as much as one for a thousand. Bytes that were given away
 * are not kept, and a process uses none of another's.
 */
void
rom_uuid_random(void *bytes, int n)
{
	static unsigned char pool[1024];
	static int	left = 0;
	static int	pid = 0;

	if (left < n || pid != MyProcPid)
	{
		left = 0;
		if (!pg_strong_random(pool, sizeof(pool)))
			ereport(ERROR,
					(errcode(ERRCODE_INTERNAL_ERROR),
					 errmsg("could not generate random values")));
		left = sizeof(pool);
		pid = MyProcPid;
	}
	left -= n;
	memcpy(bytes, pool + left, n);
	explicit_bzero(pool + left, n);
}

/*
 * The twelve bits after the milliseconds are the fraction of the millisecond,
 * and the clock is pushed on where it did not move: ids of a backend are in
 * order, and so are their rows in the primary key's index.
 */
void
rom_uuid_v7(pg_uuid_t *id)
{
	static uint64 previous = 0;
	struct timespec ts;
	uint64		ticks;			/* of 1/4096 millisecond */
	uint64		ms;
	uint32		fraction;

	clock_gettime(CLOCK_REALTIME, &ts);
	ticks = ((uint64) ts.tv_sec * 1000 + ts.tv_nsec / 1000000) * 4096 +
		(uint64) (ts.tv_nsec % 1000000) * 4096 / 1000000;
	if (ticks <= previous)
		ticks = previous + 1;
	previous = ticks;

	ms = ticks / 4096;
	fraction = ticks % 4096;
	rom_uuid_random(&id->data[8], 8);
	for (int i = 0; i < 6; i++)
		id->data[i] = (unsigned char) (ms >> (40 - 8 * i));
	id->data[6] = 0x70 | (unsigned char) (fraction >> 8);
	id->data[7] = (unsigned char) fraction;
	id->data[8] = (id->data[8] & 0x3f) | 0x80;
}

char *
rom_uuid_write(const pg_uuid_t *id, char *text)
{
	static const char digits[] = "0123456789abcdef";

	for (int i = 0; i < UUID_LEN; i++)
	{
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*text ++= '-';
		*text ++= digits[id->data[i] >> 4];
		*text ++= digits[id->data[i] & 0x0f];
	}
	return text;
}

char *
rom_uuid_text(const pg_uuid_t *id)
{
	char	   *text = palloc(ROM_UUID_TEXT + 1);

	rom_uuid_write(id, text);
	text[		ROM_UUID_TEXT] = '\0';
	return text;
}

/* digit_of is the value of a hexadecimal digit, or -1. */
static inline int
digit_of(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

int
rom_uuid_digit(char c)
{
	return digit_of(c);
}

bool
rom_uuid_read(const char *text, pg_uuid_t *id)
{
	for (int i = 0; i < UUID_LEN; i++)
	{
		int			high;
		int			low;

		if ((i == 4 || i == 6 || i == 8 || i == 10) && *text ++!= '-')
			return false;
		/* (a text that ends here is not read any further) */
		if ((high = digit_of(*text ++)) < 0 || (low = digit_of(*text ++)) < 0)
			return false;
		id->data[i] = (high << 4) | low;
	}
	return true;
}

pg_uuid_t
rom_uuid_from_text(const char *text)
{
	pg_uuid_t	id;

	if (rom_uuid_read(text, &id) && text[36] == '\0')
		return id;
	return *DatumGetUUIDP(DirectFunctionCall1(uuid_in, CStringGetDatum(text)));
}

Datum
rom_uuid_array(const pg_uuid_t *ids, int n)
{
	Datum	   *elements = palloc_array(Datum, Max(n, 1));

	for (int i = 0; i < n; i++)
		elements[i] = UUIDPGetDatum(&ids[i]);
	return PointerGetDatum(construct_array(elements, n, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR));
}
