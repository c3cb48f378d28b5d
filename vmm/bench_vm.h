/*
 * The VM of a sample: the bench's guest in memory of its own, and beside it the
 * memory that is measured, whoever provides it. Private to vmm/bench*.c.
 */
#ifndef FOAL_VMM_BENCH_VM_H
#define FOAL_VMM_BENCH_VM_H

#include <pthread.h>

#include "ept/ept.h"
#include "vmm/bench_guest/job.h"
#include "vmm/kvm.h"

/* Where all vCPUs are; each goes on when it is let. */
enum bench_stage {
	BENCH_BOOTING,
	BENCH_READY,	/* the time starts when they go on */
	BENCH_TOUCHED,	/* it has ended */
	BENCH_FINISHED, /* what the pages hold has been summed up */
};

struct bench_vm;

struct bench_cpu {
	struct bench_vm *vm;
	unsigned index;
	int fd;
	struct kvm_run *run;
	pthread_t thread;
	bool bound;		/* to the space; its thread's */
	enum bench_stage stage; /* under vm->lock */
};

struct bench_vm {
	struct kvm kvm;
	struct ept_space *space; /* NULL: the plain side; changed while the vCPUs stand still */
	char *low;		 /* the guest's own memory, slot 0, */
	size_t low_size;	 /* so much */
	struct bench_job *job;	 /* in it */
	/* NULL, or what answers the other exits: false, it does not. Any vCPU's thread. */
	bool (*answer)(void *arg, struct kvm_run *run);
	void *answer_arg;
	bool short_of_memory; /* KVM_RUN may fail for want of memory: it is tried again */
	unsigned cpus;
	struct bench_cpu cpu[BENCH_MAX_CPUS];

	pthread_mutex_t lock;
	pthread_cond_t moved;
	enum bench_stage allowed; /* how far vCPUs go; under lock */
	bool failed;		  /* the first failure is in error; under lock */
	struct foal_error error;
};

/*
 * Create it, with the guest loaded in @low_size bytes of its own, BENCH_LOW_SIZE or more: these are
 * there from the start; the caller fills in the job and adds slots.
 */
int bench_vm_create(struct bench_vm *vm, const struct kvm_machine *machine, size_t low_size,
		    struct foal_error *err);

/* Start the vCPUs. @space is told where they run; NULL for none. */
int bench_vm_start(struct bench_vm *vm, struct ept_space *space, struct foal_error *err);

/* Let them go on to @stage, and wait until all are there. */
int bench_vm_go(struct bench_vm *vm, enum bench_stage stage, struct foal_error *err);

/* After BENCH_FINISHED, or before the start: join the threads, close all. */
void bench_vm_destroy(struct bench_vm *vm);

/* Copy the guest's ELF file, @job in it, to @out of bench_guest_size() bytes. */
size_t bench_guest_size(void);
void bench_guest_copy(void *out, const struct bench_job *job);

#endif
