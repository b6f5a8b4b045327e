/*-------------------------------------------------------------------------
 *
 * keep.c
 *		Tables in shared memory that outlive a clean restart.
 *
 * A clean shutdown writes each table to its file, and the next start reads the
 * file and removes it: after a crash (or an immediate shutdown) there is none,
 * and the table begins empty. Both are done by the postmaster, as
 * pg_stat_statements does, when there is no other process.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <unistd.h>

#include "catalog/pg_control.h"
#include "common/controldata_utils.h"
#include "miscadmin.h"
#include "port/pg_crc32c.h"
#include "storage/fd.h"
#include "storage/ipc.h"

#include "base/compat.h"
#include "memory/keep.h"

typedef struct FileHeader
{
	uint32		magic;
	uint32		format;
	uint32		server;			/* PG_VERSION_NUM's major: oids are of this
								 * cluster, but be on the safe side */
	uint32		size;			/* of an entry */
	uint32		count;
	pg_crc32c	crc;			/* of the entries */
} FileHeader;

/* header_make fills the header but for count and crc. */
static void
header_make(const RomKeep *keep, FileHeader *header)
{
	memset(header, 0, sizeof(*header));
	header->magic = keep->magic;
	header->format = keep->format;
	header->server = PG_VERSION_NUM / 100;
	header->size = keep->table->entry;
	INIT_CRC32C(header->crc);
}

/* shut_down_cleanly: was there a checkpoint at the end, or is the next start a recovery? */
static bool
shut_down_cleanly(void)
{
	bool		crc_ok;
	ControlFileData *control = get_controlfile(DataDir, &crc_ok);

	return crc_ok && (control->state == DB_SHUTDOWNED ||
					  control->state == DB_SHUTDOWNED_IN_RECOVERY);
}

/* save writes the table at the end of a shutdown, when no other process is left to lock out. */
static void
save(int code, Datum arg)
{
	const RomKeep *keep = (const RomKeep *) DatumGetPointer(arg);
	char		temporary[MAXPGPATH];
	FileHeader	header;
	FILE	   *file;
	bool		ok;

	if (code != 0 || !shut_down_cleanly())
		return;					/* a crash: what is here may be nonsense */
	snprintf(temporary, sizeof(temporary), "%s.tmp", keep->file);
	file = AllocateFile(temporary, PG_BINARY_W);
	if (file == NULL)
		goto failed;
	header_make(keep, &header);
	ok = fwrite(&header, sizeof(header), 1, file) == 1;
	for (uint32 i = 0; i < rom_ways_places(keep->table); i++)
	{
		const void *entry = rom_ways_kept(keep->table, i);

		if (entry == NULL)
			continue;
		ok = ok && fwrite(entry, header.size, 1, file) == 1;
		COMP_CRC32C(header.crc, entry, header.size);
		header.count++;
	}
	FIN_CRC32C(header.crc);
	ok = ok && fseek(file, 0, SEEK_SET) == 0 && fwrite(&header, sizeof(header), 1, file) == 1;
	if (FreeFile(file) == 0 && ok && durable_rename(temporary, keep->file, LOG) == 0)
		return;
failed:
	ereport(LOG,
			(errcode_for_file_access(),
			 errmsg("could not write file \"%s\": %m", temporary)));
	unlink(temporary);
}

/* load reads the table, if its file is whole and of this format, and removes the file. */
static void
load(const RomKeep *keep)
{
	FILE	   *file = AllocateFile(keep->file, PG_BINARY_R);
	FileHeader	header;
	FileHeader	wanted;
	pg_crc32c	crc;
	void	   *entry;
	bool		ok;

	if (file == NULL)
		return;
	header_make(keep, &wanted);
	entry = palloc(wanted.size);
	INIT_CRC32C(crc);
	ok = fread(&header, sizeof(header), 1, file) == 1 &&
		header.magic == wanted.magic && header.format == wanted.format &&
		header.server == wanted.server && header.size == wanted.size &&
		header.count <= rom_ways_places(keep->table);
	for (uint32 i = 0; ok && i < header.count; i++)
	{
		ok = fread(entry, wanted.size, 1, file) == 1;
		if (ok)
			COMP_CRC32C(crc, entry, wanted.size);
	}
	FIN_CRC32C(crc);
	ok = ok && EQ_CRC32C(crc, header.crc) &&
		fseek(file, sizeof(header), SEEK_SET) == 0;
	for (uint32 i = 0; ok && i < header.count; i++)
	{
		if (fread(entry, wanted.size, 1, file) != 1)
			break;
		rom_ways_put_back(keep->table, entry);
	}
	FreeFile(file);
	pfree(entry);
	if (!ok)
		ereport(LOG,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("ignoring file \"%s\", which is of another version or damaged", keep->file)));
	unlink(keep->file);
}

void
rom_keep_attach(const RomKeep *keep)
{
	if (IsBinaryUpgrade)
		return;
	load(keep);
	on_shmem_exit(save, PointerGetDatum(keep));
}
