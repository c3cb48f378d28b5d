/*
 * What of a start's fault debt ept/ does not know (docs/stats.md): when the guest said that it is
 * ready, and how many faults KVM had fixed when, whoever brought the pages. Private to vmm/.
 */
#ifndef FOAL_VMM_DEBT_H
#define FOAL_VMM_DEBT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "ept/stats.h"

/*
 * Looks at KVM's count: after 1 ms, then half as far again, from 0.5 s on a fifth: an hour. Where
 * nothing came since the last, the next is DEBT_QUIET times as far off: a look wakes the main
 * thread, and a thousand idle clones have as many of them.
 */
#define DEBT_LOOKS     64
#define DEBT_FIRST_NS  1000000
#define DEBT_SPARSE_NS 500000000
#define DEBT_QUIET     4

struct debt_look {
	uint64_t ns; /* since the start */
	uint64_t fixed;
};

struct vm_debt {
	atomic_bool said;	     /* by the guest, once */
	atomic_bool is_ready;	     /* `ready` is there */
	struct ept_debt_point ready; /* written once, before is_ready */
	/* The main thread's: */
	uint64_t begun, due; /* now_ns(): of the first look's wait; of the next look; 0: none */
	/* Written by the main thread before `count`, and not again. */
	struct debt_look look[DEBT_LOOKS];
	atomic_uint count;
};

/* The guest is ready. Any thread of a vCPU; the first call counts. */
void debt_ready(struct vm_debt *debt, const struct ept_space *space);
/* When; false: it was not so far. Any thread. */
bool debt_was_ready(const struct vm_debt *debt, struct ept_debt_point *out);

/* The main thread alone: from now on there is something to look at; when the next look is due, */
void debt_begin(struct vm_debt *debt);
uint64_t debt_due(const struct vm_debt *debt);
/* and that look: KVM has fixed @fixed faults. @start: now_ns() when the VM began. */
void debt_look(struct vm_debt *debt, uint64_t start, uint64_t fixed);

/*
 * The first look that saw @percent of @all faults fixed; @now (ns since the start), or the last
 * look's time if that is later, and @all where none has. Any thread.
 */
struct debt_look debt_by(const struct vm_debt *debt, uint64_t all, uint64_t now, unsigned percent);

#endif
