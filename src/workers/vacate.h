/*-------------------------------------------------------------------------
 *
 * vacate.h
 *		Workers that have to leave: for others that wait for a place, and because
 *		of settings.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_VACATE_H
#define ROM_VACATE_H

#include "workers/plan.h"

/*
 * Asks the worker that is needed least to leave. dbid: only executors of this database are asked;
 * otherwise any worker. For an additional executor, only an executor that has been idle for a while
 * makes room; for an additional scheduler, none. When only long steps are left, and the need is a scheduler or an owner's
 * first executor, one of an owner that has several is torn out: it was asked to leave before, and is run again from its begin. One
 * in a step that must not run twice goes on in overtime, and its place is free.
 */
extern void rom_vacate_for(RomPlan *plan, Oid dbid, const RomNeed *need, RomShortage of);

/* Asks those workers to leave whose database is not served: left out of romancy.databases, or romancy.enabled is off. */
extern void rom_vacate_unserved(RomPlan *plan);

/*
 * rom_vacate_surplus asks executors to leave of which a database has more than romancy.executors allows
 * now: those that rest, then those whose work is quick, then the others. Each ends what it is doing.
 */
extern void rom_vacate_surplus(RomPlan *plan, const RomPlanDatabase *known);

#endif							/* ROM_VACATE_H */
