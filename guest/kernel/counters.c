/* The fault counters' report. */
#include "guest/include/counters.h"
#include "guest/include/printk.h"

static const char *const case_names[] = {
#define X(name, what) #name,
    FAULT_CASES(X)
#undef X
};

void print_fault_counters(void)
{
	const struct fault_counters *c = &fault_counters;

	printk("faults:");
	for (unsigned i = 0; i < NR_FAULT_CASES; i++)
		if (c->cases[i])
			printk(" %s=%lu", case_names[i], c->cases[i]);
#define X(name, what) \
	if (c->name) \
		printk(" " #name "=%lu", c->name);
	FAULT_EVENTS(X)
#undef X
	printk("\n");
}
