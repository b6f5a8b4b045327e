/*-------------------------------------------------------------------------
 *
 * inflight.c
 *		The file that tells after a crash whose turns were under way.
 *
 * A process that is told to leave at once (SIGQUIT: an immediate shutdown, or another process has crashed) empties
 * its record. So what the file holds when shared memory is made again is what the process that
 * crashed was running, and nothing else.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <unistd.h>

#include "storage/fd.h"

#include "memory/inflight.h"

#define INFLIGHT_FILE "pg_stat/romancy.inflight"
#define INFLIGHT_MAGIC 0x524D0002

/* A slot's record in the file. */
typedef struct Record
{
	uint32		magic;
	Oid			dbid;
	uint32		count;
	int32		member;			/* whose turn it is; -1: all of them may be at
								 * fault */
	pg_uuid_t	ids[ROM_BATCH_MAX];
} Record;

static int	inflight_fd = -1;
static bool inflight_written = false;	/* our record is not empty */

void
rom_inflight_read(void (*add) (Oid dbid, const pg_uuid_t *id))
{
	Record		record;
	int			fd = OpenTransientFile(INFLIGHT_FILE, O_RDONLY | PG_BINARY);

	if (fd < 0)
		return;
	while (read(fd, &record, sizeof(record)) == sizeof(record))
	{
		if (record.magic != INFLIGHT_MAGIC || record.count > ROM_BATCH_MAX)
			continue;
		for (int i = 0; i < (int) record.count; i++)
			if (record.member < 0 || record.member == i)
				add(record.dbid, &record.ids[i]);
	}
	CloseTransientFile(fd);
	if (unlink(INFLIGHT_FILE) != 0)
		ereport(LOG,
				(errcode_for_file_access(),
				 errmsg("could not remove file \"%s\": %m", INFLIGHT_FILE)));
}

/*
 * Not synced: it has to survive a crash of the server, not of the machine. A
 * failure only means that a suspect is missing.
 */
void
rom_inflight_write(int slot, Oid dbid, const pg_uuid_t *ids, int count)
{
	Record		record;

	if (inflight_fd == -1)
	{
		inflight_fd = BasicOpenFile(INFLIGHT_FILE,
									O_RDWR | O_CREAT | PG_BINARY);
		if (inflight_fd < 0)
		{
			inflight_fd = -2;
			ereport(LOG,
					(errcode_for_file_access(),
					 errmsg("could not open file \"%s\": %m", INFLIGHT_FILE)));
		}
		else
			ReserveExternalFD();
	}
	if (inflight_fd < 0)
		return;

	memset(&record, 0, sizeof(record));
	record.magic = INFLIGHT_MAGIC;
	record.dbid = dbid;
	record.count = count;
	record.member = -1;
	memcpy(record.ids, ids, count * sizeof(pg_uuid_t));
	if (pwrite(inflight_fd, &record, sizeof(record),
			   (off_t) slot * sizeof(record)) == sizeof(record))
		inflight_written = count > 0;
}

bool
rom_inflight_written(void)
{
	return inflight_written;
}

void
rom_inflight_member(int slot, int member)
{
	int32		value = member;

	if (inflight_fd >= 0)
		(void) !pwrite(inflight_fd, &value, sizeof(value),
					   (off_t) slot * sizeof(Record) + offsetof(Record, member));
}

void
rom_inflight_clear_at_once(int slot)
{
	static const Record empty = {.magic = INFLIGHT_MAGIC};

	/* nothing but system calls: we may be anywhere */
	if (inflight_fd >= 0)
		(void) !pwrite(inflight_fd, &empty, sizeof(empty), (off_t) slot * sizeof(Record));
}
