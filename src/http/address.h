/*-------------------------------------------------------------------------
 *
 * address.h
 *		Which addresses a request may go to.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_ADDRESS_H
#define ROM_ADDRESS_H

#include <stdbool.h>
#include <sys/socket.h>

typedef enum RomAddressKind
{
	ROM_ADDRESS_PUBLIC,
	ROM_ADDRESS_PRIVATE,		/* loopback, private, link-local, carrier,
								 * reserved: only where a rule says "private" */
	ROM_ADDRESS_NEVER			/* multicast, broadcast, no internet address */
} RomAddressKind;

/* The kind of an address. IPv4 addresses within IPv6 ones (mapped, compatible, 6to4, NAT64) count as what they are. Allocates nothing. */
extern RomAddressKind rom_address_kind(const struct sockaddr *address);

/* May a connection be made to it? 1: yes; 0: only where private addresses may be reached; -1: never. For the transport. */
extern int	rom_address_may_connect(const struct sockaddr *address, int private);

/* Is a URL's host a private address as it is written, in any notation, or "localhost"? Looks no name up. */
extern bool rom_address_host_is_private(const char *host);

#endif							/* ROM_ADDRESS_H */
