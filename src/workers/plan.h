/*-------------------------------------------------------------------------
 *
 * plan.h
 *		What the launcher looks at when it plans: staffing.c makes the plan,
 *		vacate.c asks workers to leave for it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_PLAN_H
#define ROM_PLAN_H

#include "memory/ready.h"
#include "memory/roster.h"

/* Needs that one plan looks at: of each queue and each database, and some owners need several executors. */
#define ROM_PLAN_NEEDS (2 * ROM_READY_QUEUES + ROM_MAX_DATABASES)

/* A database as it was when the plan began. */
typedef struct RomPlanDatabase
{
	Oid			dbid;
	bool		served;
	bool		needs_scheduler;
	TimestampTz scheduler_at;
	bool		schedulers_due; /* all its schedulers are needed now */
	bool		scheduler_lacks;	/* one of them is still to come */
	TimestampTz waiting_since;
	int			executors;
	int			slow;			/* of them in steps that are not quick */
} RomPlanDatabase;

/* An owner or a database that waits for a worker. */
typedef struct RomNeed
{
	RomWorkerKind kind;
	Oid			dbid;
	Oid			owner;
	int			part;
	TimestampTz since;
	TimestampTz stands_since;	/* executor: no work was taken since */
	int			has;			/* executors that the owner has */
	bool		more;			/* an additional executor: no busy worker has
								 * to leave for it */
	bool		expected;		/* its work is only about to come: it gets a
								 * place that is free, or none */
} RomNeed;

/* Everything a plan looks at; allocated once. */
typedef struct RomPlan
{
	TimestampTz now;
	TimestampTz next;			/* when to look again */
	int			ndatabases;
	RomPlanDatabase databases[ROM_MAX_DATABASES];
	int			nqueues;
	RomReadyQueue queues[ROM_READY_QUEUES];
	int			nneeds;
	RomNeed		needs[ROM_PLAN_NEEDS];
	int			unserved;		/* needs, so far, for which a worker has to
								 * leave */
	int			nworkers;
	int			nplaces;		/* of them for executors and schedulers */
	int			total;			/* places taken */
	bool		executor_rests; /* one of them by an idle worker */
	int		   *torn;			/* room for as many places */
	RomWorker	workers[FLEXIBLE_ARRAY_MEMBER];
} RomPlan;

/* rom_plan_database finds a database in the plan, or NULL. */
static inline RomPlanDatabase *
rom_plan_database(RomPlan *plan, Oid dbid)
{
	for (int i = 0; i < plan->ndatabases; i++)
		if (plan->databases[i].dbid == dbid)
			return &plan->databases[i];
	return NULL;
}

#endif							/* ROM_PLAN_H */
