/*-------------------------------------------------------------------------
 *
 * sources.c
 *		Settings by where their values come from.
 *
 * From PostgreSQL 16 on the server keeps a list of the settings that do not have their
 * defaults (3057465acf), which it does not show. Each of them is in it with a
 * member of its own, so the list is reached by one that is always in it: data_directory, whose
 * value the postmaster has set. The head, which is no setting, is found once.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"
#include "base/sources.h"

/* above: does the setting's value, or that of RESET, come from a source above "than"? */
static inline bool
above(const struct config_generic *setting, GucSource than)
{
	return setting->source > than || setting->reset_source > than;
}

#if PG_VERSION_NUM >= 160000
/* find_head finds the head of the list that the setting is in: the node that is in no setting. */
static dlist_node *
find_head(struct config_generic *setting)
{
	int			n;
	struct config_generic **all = get_guc_variables(&n);
	dlist_node *node = &setting->nondef_link;
	bool		is_setting = true;

	while (is_setting)
	{
		node = node->next;
		is_setting = false;
		for (int i = 0; i < n && !is_setting; i++)
			is_setting = &all[i]->nondef_link == node;
	}
	pfree(all);
	return node;
}

bool
rom_sources_above(GucSource than, bool (*check) (const struct config_generic *setting))
{
	static dlist_node *head = NULL;

	if (head == NULL)
		head = find_head(unconstify(struct config_generic *, rom_sources_find("data_directory")));
	for (dlist_node *node = head->next; node != head; node = node->next)
	{
		const struct config_generic *setting = dlist_container(struct config_generic, nondef_link, node);

		if (above(setting, than) && !check(setting))
			return false;
	}
	return true;
}
#else
bool
rom_sources_above(GucSource than, bool (*check) (const struct config_generic *setting))
{
	struct config_generic **all = get_guc_variables();
	int			n = GetNumConfigOptions();

	for (int i = 0; i < n; i++)
		if (above(all[i], than) && !check(all[i]))
			return false;
	return true;
}
#endif

const struct config_generic *
rom_sources_find(const char *name)
{
	int			n;
	struct config_generic **all = rom_guc_variables(&n);
	const struct config_generic *found = NULL;

	for (int i = 0; i < n && found == NULL; i++)
		if (strcmp(all[i]->name, name) == 0)
			found = all[i];
	if (ROM_GUC_LIST_IS_MADE)
		pfree(all);
	if (found == NULL)
		elog(ERROR, "setting \"%s\" does not exist", name);
	return found;
}
