/*-------------------------------------------------------------------------
 *
 * sweep.c
 *		The table of sweeps: what schedulers do now and then.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "memory/sweep.h"

typedef struct SweepEntry
{
	int			nparts;
	const RomSweep *parts[ROM_SWEEP_PARTS];
} SweepEntry;

static SweepEntry table[ROM_SWEEP_MAX];
static int	count = 0;

void
rom_sweep_register(const RomSweep *sweep)
{
	int			i = rom_sweep_find(sweep->name);

	if (i < 0)
	{
		if (count == ROM_SWEEP_MAX)
			elog(ERROR, "too many sweeps");
		i = count++;
	}
	if (table[i].nparts == ROM_SWEEP_PARTS)
		elog(ERROR, "too many parts of sweep \"%s\"", sweep->name);
	table[i].parts[table[i].nparts++] = sweep;
}

int
rom_sweep_count(void)
{
	return count;
}

int
rom_sweep_find(const char *name)
{
	int			i;

	for (i = 0; i < count; i++)
		if (strcmp(rom_sweep_name(i), name) == 0)
			return i;
	return -1;
}

const char *
rom_sweep_name(int sweep)
{
	return table[sweep].parts[0]->name;
}

int
rom_sweep_interval(int sweep)
{
	return *table[sweep].parts[0]->interval;
}

const RomSweep *
rom_sweep_part(int sweep, int part)
{
	return part < table[sweep].nparts ? table[sweep].parts[part] : NULL;
}
