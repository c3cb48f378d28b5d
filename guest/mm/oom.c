/* When nothing can be reclaimed: the program with most own pages, in memory or swapped, ends. */
#include "guest/include/oom.h"
#include "guest/include/printk.h"
#include "guest/include/process.h"
#include "guest/include/swap.h"
#include "guest/include/task.h"

#define VICTIM_NS 1000000UL /* until the next look whether the one that was picked is gone */

static const struct mem_group *short_group; /* of which one has to go; NULL: of all */

/* 0: not to be picked. One that is ending already goes before all. */
static u64 badness(const struct task *t)
{
	const struct mm *mm = t->mm;

	if (!mm || (short_group && mm->group != short_group))
		return 0;
	return t->dying ? ~0UL : 1 + mm->rss[RSS_ANON] + mm->rss[RSS_SWAP];
}

bool oom_kill(const struct mem_group *group)
{
	struct task *victim;

	short_group = group->usage >= group->limit ? group : NULL;
	victim = task_worst(badness);
	if (!victim)
		return false;
	if (!victim->dying) {
		fault_counters.oom_kills++;
		printk("out of memory%s: ending %s[%d], %lu pages and %lu swapped\n",
		       short_group ? " of its group" : "", victim->name, victim->pid,
		       victim->mm->rss[RSS_ANON], victim->mm->rss[RSS_SWAP]);
		process_end(victim->process, SIGKILL);
	}
	if (victim == current)
		return true;
	sleep_ns(VICTIM_NS);
	return true;
}
