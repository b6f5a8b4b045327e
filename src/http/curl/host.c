/*-------------------------------------------------------------------------
 *
 * host.c
 *		Hosts that requests go to, and since when their addresses are known.
 *
 * An entry is freed when another host of its list is looked for, and no request goes to it, and nothing is known of it any more.
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>
#include <string.h>

#include "http/curl/transfer.h"

/* Lists that hosts are in, by a hash of their names. */
#define HOST_LISTS 256

static Host *hosts[HOST_LISTS];

Host *
rom_host_find(const char *url, bool private, long now)
{
	const char *begin = strstr(url, "://");
	size_t		length;
	unsigned	hash = 2166136261u;
	Host	  **at;
	Host	   *host;

	begin = begin ? begin + 3 : url;
	length = strcspn(begin, "/");
	for (size_t i = 0; i < length; i++)
		hash = (hash ^ (unsigned char) begin[i]) * 16777619u;
	at = &hosts[hash % HOST_LISTS];
	while ((host = *at) != NULL)
	{
		if (host->private == private && host->tls == (strncmp(url, "https:", 6) == 0) && strlen(host->name) == length && memcmp(host->name, begin, length) == 0)
			return host;
		if (host->requests == 0 && host->known_until <= now)
		{
			*at = host->next;
			free(host);
		}
		else
			at = &host->next;
	}
	host = calloc(1, sizeof(Host) + length + 1);
	if (host == NULL)
		return NULL;
	memcpy(host->name, begin, length);
	host->private = private;
	host->tls = strncmp(url, "https:", 6) == 0;
	*at = host;
	return host;
}
