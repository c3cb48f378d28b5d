/*
 * The state of a VM but for its memory and its disks' contents, as bytes
 * (devices/state.h): what docs/snapshot-state.md lists. Private to vmm/.
 *
 * Saving is for a VM that stands still (vm_pause()). Loading is for a VM
 * built of the same machine (vmm/manifest.h), before its vCPUs run, or for one that
 * stands still.
 */
#ifndef FOAL_VMM_VM_STATE_H
#define FOAL_VMM_VM_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/error.h"

struct ept_snapshot;
struct ept_working_set;
struct snapshot_dir;
struct state;
struct vcpu;
struct vm;

/* What the guest's clocks (KVM's, and the TSC) do about the time between save and load. */
enum clock_policy {
	CLOCK_FREEZE, /* it did not pass */
	CLOCK_JUMP,   /* it passed */
};

/* Where a VM is to be loaded from; vm->restore, set before vm_build(). */
struct vm_restore {
	const void *state;
	size_t len;
	enum clock_policy clock;
	bool paused; /* it stays paused, before its first instruction from there */
	bool copy;   /* the guest may go on elsewhere, too: it is told that it is another one */
	const int *layers; /* of each disk what it had written, in order; -1, or NULL: nothing */
	bool reset_point;  /* its start is its reset point */
	struct ept_snapshot *memory; /* NULL: who restores puts the memory there */
	const struct snapshot_dir
	    *below;	  /* what memory and layers are the difference to, or NULL */
	const char *path; /* of the snapshot, absolute; NULL: not known */
	/* With memory: what to bring in before it is asked for, or NULL; an empty file for
	   what was asked for when the run ends, or -1. */
	const struct ept_working_set *ahead;
	int record_fd;
	bool all;   /* with memory: all of it comes in by itself; */
	bool eager; /* and before the vCPUs run */
};

/* *@bytes are for the caller to free(). Fails with FOAL_EXIT_HOST. */
int vm_state_save(struct vm *vm, uint8_t **bytes, size_t *len, struct foal_error *err);

/*
 * The two halves of loading vm->restore: the devices, on the thread that built them;
 * CPUID, clock and vCPUs, on any thread. Both before the vCPUs run. Of the vCPUs VCPU_STILL may
 * come first: it needs no memory slots, and does not get older while it waits for what follows.
 * Fails with FOAL_EXIT_SNAPSHOT, or FOAL_EXIT_HOST where the host is to blame.
 */
int vm_state_load_devices(struct vm *vm, struct foal_error *err);
int vm_state_load_still(struct vm *vm, struct foal_error *err);
/* @which: VCPU_*, and the VM's clock. */
int vm_state_load_vcpus(struct vm *vm, unsigned which, struct foal_error *err);
/*
 * Again, of vCPUs that have not run since: the clocks, which did, and their timers go back. @err
 * NULL: nobody asks why it failed, and the VM's name is not read.
 */
int vm_state_load_clocks(struct vm *vm, struct foal_error *err);
/*
 * Before the vCPUs are told of it: kvm.cpuid becomes what the guest was told. Before they run: KVM
 * supports all of that here (kvm.supported, which is freed).
 */
int vm_state_load_cpuid(struct vm *vm, struct foal_error *err);
int vm_state_check_cpuid(struct vm *vm, struct foal_error *err);

/*
 * What the guest wrote to copy-on-write disks: freeze it while the VM is paused; then
 * virtio_blk_save_layers() of each may take its time. Load it with vm->restore, before the
 * devices.
 */
int vm_disks_freeze(struct vm *vm, struct foal_error *err);
/* Say why a disk could not be frozen. */
int vm_no_layer(const struct vm *vm, int error, struct foal_error *err);
/* The same for a child that reads, calls virtio_blk_fold(), and ends. */
int vm_disks_freeze_passing(struct vm *vm, struct foal_error *err);
/* It has, and all were folded. */
void vm_disks_folded(struct vm *vm);
int vm_disks_load(struct vm *vm, struct foal_error *err);

/*
 * Bring @vm, which is paused, back to a state that it, or one of the same machine, was
 * saved in; vm->restore is @from from then on. On error its state is undefined, and it must
 * not be resumed.
 */
int vm_state_reload(struct vm *vm, const struct vm_restore *from, struct foal_error *err);

/*
 * The same for a state of its own, faster: what did not change since is left alone (of the
 * devices), what KVM takes with KVM_RUN waits for it (of vCPU @self, NULL or the caller's,
 * which enters KVM_RUN next). CLOCK_JUMP: the clocks are not touched. @same_controls: of
 * @self, XCR0 and the debug registers are not.
 */
int vm_state_go_back(struct vm *vm, const struct vm_restore *from, struct vcpu *self,
		     bool same_controls, struct foal_error *err);

/* --- vcpu_state.c, vcpu_msrs.c ---------------------------------------------------------- */

/* What KVM was asked that a vCPU's state depends on, and its answers. */
enum vcpu_can {
	VCPU_CAN_SREGS2,
	VCPU_CAN_SYNC_REGS,
	VCPU_CAN_XSAVE2,
	VCPU_CAN_NESTED_STATE,
	VCPU_CAN_TSC_CONTROL,
	VCPU_CANS,
};
struct vcpu_answer {
	bool known;
	int value;
};

/* Of loading into a vCPU that was in this state before, in this process. */
struct vcpu_back {
	bool enters; /* the caller is its thread, and KVM_RUN is next: what KVM can take there waits
			for it. Taken back where KVM cannot. */
	bool freeze; /* its TSC goes back, too */
	bool clocks; /* it has not run since it was loaded: of the MSRs them alone, and the local
			APIC only if its timer counts */
	bool same_controls; /* XCR0 and the debug registers are as they were */
	bool has_offset;    /* in between: */
	uint64_t tsc, offset;
	bool has_async_pf; /* what vcpu_load_async_pf() is to load */
	uint64_t async_pf;
};

/* Parts of it. */
enum {
	VCPU_STILL = 1,	 /* its registers */
	VCPU_CLOCKS = 2, /* what counts, and the timers: TSC, local APIC, MSRs */
	VCPU_OTHERS = 4,
	VCPU_ALL = 7,
};

/*
 * One vCPU, those parts of it; saving: all. @elapsed: nanoseconds that its TSC is to be ahead of
 * what was saved. @back (NULL: saving, or a first load): as above; every call costs some 9 us where
 * KVM is software, so there are as few as can be.
 */
void vcpu_state(struct vcpu *vcpu, struct state *s, unsigned which, uint64_t elapsed,
		struct vcpu_back *back);

/* Its model specific registers, but the TSC only of @back, those of KVM's paravirtual features
   among them. */
void vcpu_msrs_state(struct vcpu *vcpu, struct state *s, struct vcpu_back *back);

/*
 * MSR_KVM_ASYNC_PF_EN, where the call above put it off until it is known what the vCPU waits for;
 * false: KVM does not take it. A guest that knows nothing of asynchronous page faults is halted
 * for one by KVM, in no state that can be read or loaded, and woken when the page is there;
 * whoever turns them off, also when they are off, has KVM forget the page and wake nobody. So
 * what is off and stays off is not written of a vCPU that is to run (@runnable): it runs when the
 * page is there. One that is to wait is woken from both by what it waits for.
 */
bool vcpu_load_async_pf(const struct vcpu *vcpu, const struct vcpu_back *back, bool runnable);
/*
 * Counts, to be written to a vCPU's TSC in this order, the last of which it has then: how many. KVM
 * takes a count within a second of what its own is by now for a try to be in step with it, and goes
 * on with its own (kvm_synchronize_tsc()): before Linux 6.7 also the first one that a VM is given,
 * so that of a guest which is younger than a second would be the new VM's, behind or ahead. A count
 * that is far away, by days, is no such try, and the right one is none beside that. So vCPU 0's;
 * those of the others are tries to be in step with it.
 */
#define TSC_FAR (1UL << 50)
unsigned vcpu_counts(const struct vcpu *vcpu, uint64_t count, uint64_t out[2]);
/* Write them, in one call. False: KVM does not take it. */
bool vcpu_set_count(const struct vcpu *vcpu, uint64_t count);
/* One register; 0 or a negative errno. */
int vcpu_get_msr(const struct vcpu *vcpu, uint32_t index, uint64_t *value);
int vcpu_set_msr(const struct vcpu *vcpu, uint32_t index, uint64_t value);

#endif
