/*
 * world.c: preloaded into a server, it sets the server's clock and time zone data (085_schedule_clock.pl).
 *
 * WORLD_CLOCK names a file with an 8-byte integer, the seconds by which the clock is ahead, which may change at any time.
 * WORLD_ZONES and WORLD_ZONES_AT: what is looked for below the first directory is taken from the second.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#undef open
#undef open64
#undef opendir

static int64_t
ahead(void)
{
	static volatile int64_t *clock_file;

	if (clock_file == NULL)
	{
		const char *name = getenv("WORLD_CLOCK");
		long		fd = name ? syscall(SYS_openat, AT_FDCWD, name, O_RDONLY | O_CLOEXEC) : -1;
		void	   *map = fd >= 0 ? mmap(NULL, 8, PROT_READ, MAP_SHARED, (int) fd, 0) : MAP_FAILED;

		if (fd >= 0)
			close((int) fd);
		if (map == MAP_FAILED)
			return 0;
		clock_file = map;
	}
	return *clock_file;
}

int
clock_gettime(clockid_t clock, struct timespec *ts)
{
	int			rc = (int) syscall(SYS_clock_gettime, clock, ts);

	if (rc == 0 && clock == CLOCK_REALTIME)
		ts->tv_sec += ahead();
	return rc;
}

int
gettimeofday(struct timeval *restrict tv, void *restrict tz)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	tv->tv_sec = ts.tv_sec;
	tv->tv_usec = ts.tv_nsec / 1000;
	return 0;
}

time_t
time(time_t *t)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	if (t)
		*t = ts.tv_sec;
	return ts.tv_sec;
}

/* Where a file really is. */
static const char *
place(const char *path, char *buffer, size_t size)
{
	const char *zones = getenv("WORLD_ZONES");
	const char *at = getenv("WORLD_ZONES_AT");

	if (zones == NULL || at == NULL || strncmp(path, zones, strlen(zones)) != 0)
		return path;
	snprintf(buffer, size, "%s%s", at, path + strlen(zones));
	return buffer;
}

static int
open_at(const char *path, int flags, mode_t mode)
{
	char		buffer[4096];

	return (int) syscall(SYS_openat, AT_FDCWD, place(path, buffer, sizeof(buffer)), flags, mode);
}

#define OPEN(name) \
int \
name(const char *path, int flags, ...) \
{ \
	mode_t		mode = 0; \
	va_list		args; \
 \
	va_start(args, flags); \
	if (flags & (O_CREAT | __O_TMPFILE)) \
		mode = va_arg(args, mode_t); \
	va_end(args); \
	return open_at(path, flags, mode); \
} \
extern int	name(const char *path, int flags, ...)

OPEN(open);
OPEN(open64);
OPEN(__open_2);
OPEN(__open64_2);

DIR *
opendir(const char *path)
{
	static DIR *(*original) (const char *);
	char		buffer[4096];

	if (original == NULL)
		original = (DIR *(*) (const char *)) dlsym(RTLD_NEXT, "opendir");
	return original(place(path, buffer, sizeof(buffer)));
}
