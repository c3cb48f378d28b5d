/*
 * A running VM becomes more VMs (docs/fork.md). A thread that is asleep until it is asked
 * pauses the VM, takes its state, forks one child, and lets the VM go on. That child is
 * frozen: it has one thread, and stays as it is while it forks the VMs, each from what whoever
 * asked brings: a name, a socket, a log. So the pause does not grow with their number, and all
 * begin from the same moment.
 *
 * The thread has a sandbox of its own (THREAD_FORK), in which a VM can begin; it does nothing with
 * what a guest gave. Private to vmm/.
 */
#ifndef FOAL_VMM_FORK_H
#define FOAL_VMM_FORK_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "ept/ept.h"
#include "vmm/ends.h"
#include "vmm/error.h"
#include "vmm/frozen.h"
#include "vmm/options.h"
#include "vmm/vm_state.h"

struct vm;

#define FORK_COUNT_MAX 4096
#define FORK_POOL_MAX  4096
/*
 * Bytes of a message: of who asks, a name, and in a second line what ends_take() reads; of a VM
 * that began or did not, what is to be told.
 */
#define FORK_MESSAGE   1024
/* How long the frozen child waits for messages, in all. */
#define FORK_WAIT_MS   20000

/* What comes with a name, in this order; then ENDS_FILES_MAX at most. */
enum fork_file { FORK_NULL, FORK_LOCK, FORK_LISTEN, FORK_LOG, FORK_SWAP, FORK_FILES };
#define FORK_FILES_MAX (FORK_FILES + ENDS_FILES_MAX)

struct fork_request {
	int channel; /* SOCK_SEQPACKET; the caller's */
	unsigned count;
	enum clock_policy clock;
	bool has_swap;	       /* FORK_SWAP comes, too */
	bool template;	       /* instead of VMs: one that is kept, from which VMs are cloned */
	unsigned pool;	       /* of it: how many clones are made ready ahead */
	struct end_kinds ends; /* come behind the rest */
};

/* The thread; of a VM with a name. */
struct forker {
	pthread_t thread;
	bool started;
	pthread_mutex_t lock; /* all below */
	pthread_cond_t changed;
	bool wanted, done, ending;
	unsigned later; /* enum later: what is to be done */
	bool settled;	/* nothing more is */
	const struct fork_request *request;
	struct frozen_child *job;
	struct frozen_pause *pause;
	struct foal_error *err;
	int result;
};

/* What a VM was born with that was forked; vm->birth. */
struct fork_birth {
	struct run_options opt;
	struct vm_restore state;
	struct disk_layer *layers[MAX_FILES]; /* of each disk, until its device has them */
	int channel;			      /* -1: told */
	int await_fd;	    /* a clone made ahead: where it hears its name; -1: it has one */
	int heed_fd;	    /* the same for its first vCPU's thread, whose it is */
	bool ahead;	    /* it was made ahead; fixed */
	uint64_t forked_ns; /* now_ns() as its process began */
};

/*
 * What only the beginning of a thread needed of its stack is memory that each of many copies
 * would keep: given back, if @vm is one.
 */
void fork_trim_stack(const struct vm *vm);

/* Is @vm a clone that a template made before it had a name? */
bool fork_made_ahead(const struct vm *vm);

void forker_init(struct vm *vm);
/* On the main thread, before it enters the sandbox. 0 or a negative errno. */
int forker_start(struct vm *vm);
/* The thread is gone. */
void forker_end(struct vm *vm);

/* --- fork_later.c: what threads a forked VM begins without -------------------------------- */

enum later { LATER_CONTROL = 1, LATER_FILES = 2, LATER_STOP = 4 };

/* Does @vm begin without foal-control, foal-files and foal-stop? */
bool later_has(const struct vm *vm);
/* Have foal-fork make it; asking again does nothing. Else it is there. */
void later_make(struct vm *vm, enum later what);
/* foal-fork is to stop @vm, and makes nothing more. False: it is not its to do. */
bool later_stop(struct vm *vm);
/* On foal-fork, with its lock held, which it drops meanwhile. False: nothing was asked. */
bool later_do(struct vm *vm);

/* Why @vm cannot be forked, whatever is asked: -EOPNOTSUPP and @err, or 0. */
int fork_possible(const struct vm *vm, const struct fork_request *request, struct foal_error *err);

/*
 * Have the thread do it: returns when @vm goes on. One at a time: -EBUSY while @job has a
 * child. FOAL_EXIT_CONTROL.
 */
int fork_begin(struct vm *vm, struct frozen_child *job, const struct fork_request *request,
	       struct frozen_pause *out, struct foal_error *err);
/* Has the frozen child ended? What was held for it is given back then. True: there is none. */
bool fork_reap(struct vm *vm, struct frozen_child *job);

/* --- fork_child.c: in children ---------------------------------------------------------- */

/*
 * Let go of what would keep the VM's own things alive: KVM's VM (its vCPUs are mapped), the
 * name's lock, clients, the console. kvm.dev_fd and standard descriptors are kept.
 */
void vm_let_go(struct vm *vm);

/* Not through exit(): nothing that the VM has to put in order is a child's. */
_Noreturn void process_end(int status);

/* The frozen child: fork what is asked for, end. @state is the VM's. */
_Noreturn void fork_frozen(struct vm *vm, const struct fork_request *request,
			   struct ept_fork *memory, const uint8_t *state, size_t len);

/* The guest of a VM that was forked runs: say so. -EPIPE: who asked is gone. */
int fork_tell(struct vm *vm);

#endif
