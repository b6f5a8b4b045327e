/*-------------------------------------------------------------------------
 *
 * share.c
 *		Requests under way, and how many more may begin: of all, and of a namespace.
 *
 * No namespace keeps others from sending: it may have at most KEEPS times as many requests under way as there are places left, so that
 * each that comes later finds some. (A dynamic threshold: Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory packet
 * switches", 1998.) Where there is one namespace only it has all places.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "base/spi.h"
#include "http/guc.h"
#include "http/share.h"

/* A namespace alone leaves an eighth of the places. */
#define KEEPS 7

/* Outcomes that are held, for each place, and the bytes of their answers: the others keep their places. */
#define HELD_FOR_PLACE 16
#define HELD_BYTES (64 * 1024 * 1024)

typedef struct Share
{
	int32		namespace;		/* key */
	int			taken;
} Share;

static HTAB *shares = NULL;
static int	taken = 0;
static int	held = 0;
static size_t held_bytes = 0;
static bool several = false;	/* namespaces */
static bool refused = false;
static bool freed = false;

/* share_of finds the entry of a namespace; if make, it makes it if need be. */
static Share *
share_of(int32 namespace, bool make)
{
	HASHCTL		ctl = {.keysize = sizeof(int32),.entrysize = sizeof(Share),.hcxt = TopMemoryContext};
	Share	   *share;
	bool		found;

	if (shares == NULL)
		shares = hash_create("romancy HTTP requests of namespaces", 16, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	share = hash_search(shares, &namespace, make ? HASH_ENTER : HASH_FIND, &found);
	if (make && !found)
		share->taken = 0;
	return share;
}

/* let_go frees a place. */
static void
let_go(int32 namespace)
{
	Share	   *share = share_of(namespace, true);

	taken--;
	freed |= refused;
	if (--share->taken == 0)
		hash_search(shares, &namespace, HASH_REMOVE, NULL);
}

int
rom_share_room(void)
{
	return rom_guc_http_max_in_flight - taken;
}

void
rom_share_look(void)
{
	static RomStatement select = {"SELECT FROM romancy.t_namespace LIMIT 2", 0, {0}};
	RomEngine	engine;

	rom_engine_begin(&engine);
	several = rom_execute(&select, NULL, NULL, 2) > 1;
	rom_engine_end(&engine);
}

int
rom_share_room_of(int32 namespace)
{
	int			room = rom_share_room();
	Share	   *share;
	int			has;
	int			may;

	if (!several || room <= 0)
		return room;
	share = share_of(namespace, false);
	has = share != NULL ? share->taken : 0;

	/*
	 * the largest n with has + n <= KEEPS * (room - n); the first one has no
	 * condition
	 */
	may = Max((KEEPS * room - has) / (KEEPS + 1), has == 0 ? 1 : 0);
	refused |= may < room;
	return Min(may, room);
}

void
rom_share_begin(int32 namespace, RomSharePlace *place)
{
	share_of(namespace, true)->taken++;
	taken++;
	place->taken = true;
}

void
rom_share_end(int32 namespace, RomSharePlace *place)
{
	if (place->taken)
		let_go(namespace);
	if (place->held)
	{
		held--;
		held_bytes -= place->bytes;
	}
	memset(place, 0, sizeof(*place));
}

void
rom_share_hold(int32 namespace, RomSharePlace *place, size_t bytes)
{
	if (!place->taken || held >= HELD_FOR_PLACE * rom_guc_http_max_in_flight || held_bytes + bytes > HELD_BYTES)
		return;
	let_go(namespace);
	held++;
	held_bytes += bytes;
	place->taken = false;
	place->held = true;
	place->bytes = bytes;
}

bool
rom_share_freed(void)
{
	bool		was = freed;

	if (was)
		refused = freed = false;
	return was;
}
