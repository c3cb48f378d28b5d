/*
 * Resets (docs/reset.md): a VM goes back, in place, to a state it was in, its reset point.
 * Private to vmm/.
 */
#ifndef FOAL_VMM_RESET_H
#define FOAL_VMM_RESET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ept/ept.h"
#include "ept/stats.h"
#include "vmm/error.h"
#include "vmm/vm_state.h"

struct vcpu;
struct vm;

struct vm_reset {
	/* All below: of whoever has the VM paused. */
	bool set; /* there is a point */
	struct vm_restore from;
	uint8_t *state;	 /* from.state, if it is to be freed */
	uint64_t **logs; /* of each slot; NULL: read-only */
	size_t nr_logs;
	bool logging;
	void *empty;		   /* a page that no guest sees, in a slot that moves: */
	uint64_t moves;		   /* so often */
	_Atomic uint32_t count;	   /* resets since the point; read by the guest */
	uint64_t points, resets;   /* in all */
	uint64_t pages, kept;	   /* brought back in all; bytes kept */
	struct ept_hist took, gap; /* ns: from the VM's rest to its release; of those that the
				      guest rang for, from its exit to its next KVM_RUN */
};

/* How it went. */
struct reset_result {
	uint64_t pages, read, kept; /* as ept_reset_stats; of a point: kept alone */
	uint64_t took;		    /* ns */
};

void reset_init(struct vm *vm);
/* After the space: it is freed here. */
void reset_end(struct vm *vm);

/*
 * The VM is paused: the state that it is in is its reset point from now on. The first takes the
 * time and the memory of a copy of what the guest touched, others that of what was written
 * since the last. After an error there is none.
 */
int reset_point_set(struct vm *vm, enum clock_policy clock, struct reset_result *out,
		    struct foal_error *err);

/*
 * The same for a VM that was just restored, before its vCPUs run: vm->restore is the point, and
 * no copy is made.
 */
int reset_point_at_start(struct vm *vm, struct foal_error *err);

/* What a guest that rings may say of itself; else all is taken care of. */
struct reset_how {
	bool same_generation; /* it keeps its VM generation ID */
	bool same_tables;     /* it has not written to page tables since the point */
	bool same_controls;   /* nor, on the vCPU that rang, to XCR0 and debug registers */
};

/*
 * The VM is paused: back to its point. @self: as vm_state_go_back(). -EINVAL: there is no point.
 * After another error the run ends, unless err says that the VM goes on as it was: -EIO.
 */
int reset_go_back(struct vm *vm, struct vcpu *self, struct reset_how how, struct reset_result *out,
		  struct foal_error *err);

/* --- the guest's bell ------------------------------------------------------------------ */

/* The calling thread runs @vcpu. */
void reset_bell_on_vcpu(struct vcpu *vcpu);
/* Rung by the vCPU that runs on this thread: done by reset_answer(). */
void reset_bell(struct vm *vm, uint8_t what);
/* How often it went back to the point; UINT32_MAX: there is none. */
uint32_t reset_count(struct vm *vm);
/* The thread of a vCPU that rang, out of KVM_RUN with its exit completed. */
void reset_answer(struct vcpu *vcpu);
/* It enters the guest now: if it has gone back, that is what the guest saw (vm_reset.gap). */
void reset_gap_ends(struct vcpu *vcpu);

#endif
