/*-------------------------------------------------------------------------
 *
 * address.c
 *		Which addresses a request may go to.
 *
 * The address is looked at after the name was resolved, by the socket that is about to be connected: so no name, no
 * way of writing a number and no answer that changes can get around it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include "fmgr.h"
#include "utils/builtins.h"

#include "base/errors.h"
#include "http/address.h"

typedef struct Block4
{
	uint32		net;
	int			bits;
	RomAddressKind kind;
} Block4;

#define IP4(a, b, c, d) (((uint32) (a) << 24) | ((b) << 16) | ((c) << 8) | (d))

/* IANA's registry of special addresses, and multicast */
static const Block4 blocks4[] = {
	{IP4(0, 0, 0, 0), 8, ROM_ADDRESS_PRIVATE},
	{IP4(10, 0, 0, 0), 8, ROM_ADDRESS_PRIVATE},
	{IP4(100, 64, 0, 0), 10, ROM_ADDRESS_PRIVATE},
	{IP4(127, 0, 0, 0), 8, ROM_ADDRESS_PRIVATE},
	{IP4(169, 254, 0, 0), 16, ROM_ADDRESS_PRIVATE},
	{IP4(172, 16, 0, 0), 12, ROM_ADDRESS_PRIVATE},
	{IP4(192, 0, 0, 0), 24, ROM_ADDRESS_PRIVATE},
	{IP4(192, 0, 2, 0), 24, ROM_ADDRESS_PRIVATE},
	{IP4(192, 88, 99, 0), 24, ROM_ADDRESS_PRIVATE},
	{IP4(192, 168, 0, 0), 16, ROM_ADDRESS_PRIVATE},
	{IP4(198, 18, 0, 0), 15, ROM_ADDRESS_PRIVATE},
	{IP4(198, 51, 100, 0), 24, ROM_ADDRESS_PRIVATE},
	{IP4(203, 0, 113, 0), 24, ROM_ADDRESS_PRIVATE},
	{IP4(224, 0, 0, 0), 4, ROM_ADDRESS_NEVER},
	{IP4(255, 255, 255, 255), 32, ROM_ADDRESS_NEVER},
	{IP4(240, 0, 0, 0), 4, ROM_ADDRESS_PRIVATE},
};

static RomAddressKind
kind4(uint32 address)
{
	for (int i = 0; i < lengthof(blocks4); i++)
		if (((address ^ blocks4[i].net) >> (32 - blocks4[i].bits)) == 0)
			return blocks4[i].kind;
	return ROM_ADDRESS_PUBLIC;
}

/* embedded4 gives the IPv4 address from byte number i on. */
static uint32
embedded4(const uint8 *a, int i)
{
	return IP4(a[i], a[i + 1], a[i + 2], a[i + 3]);
}

static bool
begins(const uint8 *a, const uint8 *prefix, int length)
{
	return memcmp(a, prefix, length) == 0;
}

static RomAddressKind
kind6(const uint8 *a)
{
	static const uint8 zeros[16] = {0};
	static const uint8 mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
	static const uint8 translated[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0};
	static const uint8 nat64[12] = {0, 0x64, 0xff, 0x9b};
	static const uint8 sixtofour[2] = {0x20, 0x02};
	static const uint8 documentation[4] = {0x20, 0x01, 0x0d, 0xb8};
	static const uint8 protocols[2] = {0x20, 0x01};

	if (begins(a, zeros, 15) && a[15] <= 1)
		return ROM_ADDRESS_PRIVATE; /* ::, ::1 */
	if (begins(a, mapped, 12) || begins(a, translated, 12) || begins(a, nat64, 12) || begins(a, zeros, 12))
		return kind4(embedded4(a, 12));
	if (begins(a, sixtofour, 2))
		return kind4(embedded4(a, 2));
	if (a[0] == 0xff)
		return ROM_ADDRESS_NEVER;
	if (begins(a, documentation, 4))
		return ROM_ADDRESS_PRIVATE;
	if (begins(a, protocols, 2) && a[2] < 2)
		return ROM_ADDRESS_PRIVATE; /* 2001::/23: Teredo and others */
	if (a[0] == 0x3f && a[1] == 0xff)
		return ROM_ADDRESS_PRIVATE; /* 3fff::/20, documentation */
	/* what is not global unicast is local, reserved, or translated */
	return (a[0] & 0xe0) == 0x20 ? ROM_ADDRESS_PUBLIC : ROM_ADDRESS_PRIVATE;
}

RomAddressKind
rom_address_kind(const struct sockaddr *address)
{
	if (address->sa_family == AF_INET)
		return kind4(ntohl(((const struct sockaddr_in *) address)->sin_addr.s_addr));
	if (address->sa_family == AF_INET6)
		return kind6(((const struct sockaddr_in6 *) address)->sin6_addr.s6_addr);
	return ROM_ADDRESS_NEVER;
}

int
rom_address_may_connect(const struct sockaddr *address, int private)
{
	RomAddressKind kind = rom_address_kind(address);

	if (kind == ROM_ADDRESS_NEVER)
		return -1;
	return kind == ROM_ADDRESS_PUBLIC || private;
}

bool
rom_address_host_is_private(const char *host)
{
	struct sockaddr_in in = {.sin_family = AF_INET};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
	size_t		length = strlen(host);
	char		address[INET6_ADDRSTRLEN + 1];

	if (strcmp(host, "localhost") == 0 || (length > 10 && strcmp(host + length - 10, ".localhost") == 0))
		return true;
	if (host[0] == '[' && length - 2 < sizeof(address))
	{
		memcpy(address, host + 1, length - 2);
		address[length - 2] = '\0';
		return inet_pton(AF_INET6, address, &in6.sin6_addr) == 1 && rom_address_kind((struct sockaddr *) &in6) == ROM_ADDRESS_PRIVATE;
	}
	return inet_aton(host, &in.sin_addr) != 0 && rom_address_kind((struct sockaddr *) &in) == ROM_ADDRESS_PRIVATE;
}

PG_FUNCTION_INFO_V1(romancy_http_address);

/* romancy.t_http_address(address text) -> text: public, private or never. RM012: it is no address. */
Datum
romancy_http_address(PG_FUNCTION_ARGS)
{
	char	   *address = text_to_cstring(PG_GETARG_TEXT_PP(0));
	struct sockaddr_in in = {.sin_family = AF_INET};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
	RomAddressKind kind;

	if (inet_pton(AF_INET, address, &in.sin_addr) == 1)
		kind = rom_address_kind((struct sockaddr *) &in);
	else if (inet_pton(AF_INET6, address, &in6.sin6_addr) == 1)
		kind = rom_address_kind((struct sockaddr *) &in6);
	else
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("\"%s\" is not an internet address", address)));
	PG_RETURN_TEXT_P(cstring_to_text(kind == ROM_ADDRESS_PUBLIC ? "public" : kind == ROM_ADDRESS_PRIVATE ? "private" : "never"));
}
