/* The fault counters' report. */
#include "guest/include/counters.h"
#include "guest/include/cpu.h"
#include "guest/include/printk.h"

static const char *const case_names[] = {
#define X(name, what) #name,
    FAULT_CASES(X)
#undef X
};

struct fault_counts sum_fault_counters(void)
{
	struct fault_counts sum = {0};

	for (const struct cpu *cpu = cpus; cpu < cpus + nr_cpus; cpu++) {
		for (unsigned i = 0; i < NR_FAULT_CASES; i++)
			sum.cases[i] += cpu->faults.cases[i];
#define X(name, what) sum.name += cpu->faults.name;
		FAULT_EVENTS(X)
#undef X
	}
	return sum;
}

void print_fault_counters(void)
{
	const struct fault_counts sum = sum_fault_counters(), *c = &sum;

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
