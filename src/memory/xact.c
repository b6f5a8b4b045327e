/*-------------------------------------------------------------------------
 *
 * xact.c
 *		What runs at the ends of transactions: one registration with the server, and a
 *		table of participants in the order in which they run.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/resowner.h"

#include "memory/xact.h"

#define PARTS_MAX 16

/* In order; of the same order, as they registered. */
static const RomXactPart *parts[PARTS_MAX];
static int	n_parts = 0;

static void
at_xact(XactEvent event, void *arg)
{
	for (int i = 0; i < n_parts; i++)
	{
		const RomXactPart *part = parts[i];

		switch (event)
		{
			case XACT_EVENT_PRE_COMMIT:
			case XACT_EVENT_PRE_PREPARE:
				if (part->pre_commit)
					part->pre_commit(event == XACT_EVENT_PRE_PREPARE);
				break;
			case XACT_EVENT_COMMIT:
				if (part->committed)
					part->committed();
				break;
			case XACT_EVENT_PREPARE:
				if (part->prepared)
					part->prepared();
				break;
			case XACT_EVENT_ABORT:
			case XACT_EVENT_PARALLEL_COMMIT:
			case XACT_EVENT_PARALLEL_ABORT:
				if (part->aborted)
					part->aborted();
				break;
			case XACT_EVENT_PARALLEL_PRE_COMMIT:
				break;
		}
	}
}

static void
at_subxact(SubXactEvent event, SubTransactionId mySubid,
		   SubTransactionId parentSubid, void *arg)
{
	int			level = GetCurrentTransactionNestLevel();

	for (int i = 0; i < n_parts; i++)
	{
		const RomXactPart *part = parts[i];

		switch (event)
		{
			case SUBXACT_EVENT_START_SUB:
				if (part->sub_began)
					part->sub_began(level);
				break;
			case SUBXACT_EVENT_COMMIT_SUB:
				if (part->sub_committed)
					part->sub_committed(level);
				break;
			case SUBXACT_EVENT_ABORT_SUB:
				if (part->sub_aborted)
					part->sub_aborted(level);
				break;
			case SUBXACT_EVENT_PRE_COMMIT_SUB:
				break;
		}
	}
}

static void
at_release(ResourceReleasePhase phase, bool isCommit, bool isTopLevel, void *arg)
{
	if (phase != RESOURCE_RELEASE_AFTER_LOCKS || !isTopLevel)
		return;
	for (int i = 0; i < n_parts; i++)
		if (parts[i]->after_locks)
			parts[i]->after_locks(isCommit);
}

void
rom_xact_register(const RomXactPart *part)
{
	int			place = n_parts;

	if (n_parts == PARTS_MAX)
		elog(ERROR, "too many participants in the ends of transactions");
	if (n_parts == 0)
	{
		RegisterXactCallback(at_xact, NULL);
		RegisterSubXactCallback(at_subxact, NULL);
		RegisterResourceReleaseCallback(at_release, NULL);
	}
	for (; place > 0 && parts[place - 1]->order > part->order; place--)
		parts[place] = parts[place - 1];
	parts[place] = part;
	n_parts++;
}
