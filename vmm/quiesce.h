/*
 * Bringing a running VM to rest, and back: pause, and what needs a VM that stands
 * still (a snapshot, a fork, a reset). Private to vmm/.
 *
 * After vm_pause() has returned 0, until vm_resume() or the end of the run:
 *
 *   - every vCPU thread is out of KVM_RUN, with the exit it left for completed, and
 *     waits; the state that KVM gives of a vCPU is consistent;
 *   - no device thread is at a queue: what the driver made available and no worker had
 *     begun stays in its ring; no request is under way, and no backend is read;
 *   - nothing typed, no button and no target enters a device (quiesce_enter());
 *   - so nobody changes guest memory, a device or a vCPU, and the locks of devices and
 *     of the monitor that guard them are free.
 *
 * ept/'s threads go on: they change how a page is held (a huge page, the swap file),
 * under ept/'s locks, and never what the guest would read there. A fault that the
 * host's kernel began for a vCPU (an asynchronous page fault) may still be resolved.
 * Who needs that to stand still as well (fork) sees to it in ept/.
 *
 * Clocks go on: TSC, kvmclock, APIC timers and the RTC count the pause, timers that
 * were due fire at the resume, and KVM_KVMCLOCK_CTRL tells a guest with kvmclock that
 * it was stopped, so that its watchdogs keep quiet. --time-limit counts it, too.
 */
#ifndef FOAL_VMM_QUIESCE_H
#define FOAL_VMM_QUIESCE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/error.h"

struct vm;
struct vcpu;

struct quiesce {
	pthread_mutex_t changing; /* whoever pauses or resumes; outermost */
	pthread_mutex_t lock;	  /* all below; before the locks of devices */
	pthread_cond_t parked_one, go;
	atomic_bool wanted; /* vCPUs are to park; read without the lock as a hint */
	bool ended;	    /* the run is: nothing parks any more */
	unsigned parked;
	uint64_t since; /* now_ns(): `wanted` from then on */
	uint64_t pauses, paused_ns;
	_Atomic uint64_t paused_since; /* of a pause that is complete; 0: none */
};

void quiesce_init(struct quiesce *q);
void quiesce_destroy(struct quiesce *q);

/* How long a pause may take to be complete. */
#define PAUSE_LIMIT_NS 5000000000ULL

/*
 * Pause @vm, which was started: the above holds. *@took: ns until it did. Any thread
 * but those of vCPUs and devices. -EALREADY: it is paused; -ESHUTDOWN: the run ends;
 * -ETIMEDOUT: not within @limit ns, the guest goes on and @err says what it waited for.
 * @err is filled in each case. A VM that ends while it is paused ends as any other.
 */
int vm_pause(struct vm *vm, uint64_t limit, uint64_t *took, struct foal_error *err);

/* The guest goes on; *@paused: ns since it stood still for the pause. -EINVAL: it was not paused.
 */
int vm_resume(struct vm *vm, uint64_t *paused, struct foal_error *err);

/*
 * The same for the thread of vCPU @self, which is at rest itself, out of KVM_RUN with its exit
 * completed. Nobody else pauses or resumes until vm_resume_by_vcpu(). -EAGAIN: somebody
 * does, and may wait for @self to park: @self has to look whether it is to, and try again.
 */
int vm_pause_by_vcpu(struct vcpu *self, struct foal_error *err);
void vm_resume_by_vcpu(struct vcpu *self);

/* ns since the pause that holds was asked for; 0: the VM is not paused. Any thread. */
uint64_t vm_paused_for(struct vm *vm);

/* The run ends: whoever is parked goes, and nobody parks any more. break: waits for no pause. */
void quiesce_break(struct vm *vm);
void quiesce_end(struct vm *vm);

/* For a vCPU's thread, before KVM_RUN; and when it is out, its exit completed: returns when it may
 * go on. */
static inline bool quiesce_wanted(struct quiesce *q)
{
	return atomic_load(&q->wanted);
}
void quiesce_park(struct quiesce *q);

/*
 * For whoever drives a device from outside of the guest (a key, the power button, the
 * balloon's target). False: the VM is paused, leave it. True: it is not paused until
 * quiesce_leave(); to be called soon, without waiting.
 */
bool quiesce_enter(struct quiesce *q);
void quiesce_leave(struct quiesce *q);

#endif
