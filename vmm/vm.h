/*
 * One virtual machine of this process: what it is made of, how it is put
 * together, run and taken apart. Private to vmm/.
 */
#ifndef FOAL_VMM_VM_H
#define FOAL_VMM_VM_H

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "devices/devices.h"
#include "ept/ept.h"
#include "vmm/control.h"
#include "vmm/debt.h"
#include "vmm/fork.h"
#include "vmm/gate.h"
#include "vmm/helper.h"
#include "vmm/image.h"
#include "vmm/kvm.h"
#include "vmm/kvmstats.h"
#include "vmm/net.h"
#include "vmm/options.h"
#include "vmm/quiesce.h"
#include "vmm/reset.h"
#include "vmm/sandbox.h"
#include "vmm/vm_state.h"

struct vm;

struct vcpu {
	struct vm *vm;
	unsigned index;
	int fd;
	int stats_fd; /* negative: KVM has no statistics */
	struct kvm_run *run;
	pthread_t thread;
	bool started;		 /* the thread exists and has not been joined */
	_Atomic uint64_t rounds; /* in and out of KVM_RUN: odd while it is in there */
	atomic_bool asked;	 /* which page it does not get; until it has looked */
	uint8_t rang;		 /* FOAL_RESET_*, to be answered; 0: nothing. Its own thread's */
	uint64_t rang_ns;	 /* and when: now_ns() */
	uint64_t back_since;	 /* the same, of a reset that it has not run after; 0: none */
	struct vcpu_answer can[VCPU_CANS]; /* whoever saves or loads its state */
	bool has_mce; /* the machine check registers are set up; its own thread's */
};

/* A disk or pmem file of this VM. */
struct vm_file {
	const struct file_option *option;
	int fd;
	uint64_t size;
	struct device *device;
	struct disk_backend *backend; /* of a disk that a helper serves, until its device has it */
	int companion; /* fork_disks.h: the socket of one that a fork gets, or asks; -1: none */
	struct ept_area *area; /* of a pmem */
	gpa_t gpa;	       /* of a pmem */
};

/* A ROM, and what it is told. */
struct firmware {
	int fd;
	const char *path;
	uint64_t size;
	struct device *fw_cfg;
};

/* Why the run ends. The first thread to say so is heard. */
struct vm_end {
	pthread_mutex_t lock;
	bool decided;
	int status;
	struct foal_error error; /* text empty: nothing to say */
	int fd;			 /* eventfd, readable once decided */
};

/* The thread that stops the VM; see stop.c. */
struct vm_stopper {
	pthread_t thread;
	bool started;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool wanted, done;		   /* under the lock */
	bool dismissed;			   /* the same: there was nothing to stop */
	int result;			   /* of done */
	struct ept_area *_Atomic flushing; /* is being written back, or NULL */
};

struct vm {
	const struct run_options *opt;
	struct control *control;	  /* NULL: it has no name */
	const struct vm_restore *restore; /* NULL: the VM boots */
	struct fork_birth *birth;	  /* NULL: it was not forked */
	struct forker forker;
	struct template *template; /* NULL: it is none, and runs */
	int signals_fd;		   /* what ends a run; -1: not open */
	uint64_t tsc_base;	   /* offset that vCPU 0's TSC had when it was saved */
	struct kvm kvm;
	struct sandbox sandbox;
	struct ept_space *space;
	struct image image;	  /* with --kernel */
	struct firmware firmware; /* with --firmware */
	int initrd_fd;
	int swap_fd; /* -1: no --swap */
	uint64_t initrd_gpa, initrd_size;
	struct vm_file disks[MAX_FILES], pmems[MAX_FILES];
	struct vm_net nets[MAX_NETS];
	struct helpers helpers;
	struct bus *pio, *mmio;
	struct device *ioapic, *serial, *acpi_pm;
	struct device *balloon; /* NULL without --balloon */
	struct vm_vsock vsock;
	struct device *hvc; /* NULL without --console virtio */
	int hvc_out;	    /* its own descriptor of what console_out is */
	struct device_host host;
	struct pci *pci;       /* NULL: virtio devices are on MMIO */
	unsigned virtio_count; /* virtio devices attached */
	pthread_mutex_t routes_lock;
	struct kvm_irq_routing *routes; /* one entry a pin; under routes_lock */
	pthread_t first_vcpu;		/* its thread, until there are vcpus */
	bool first_started;		/* and it has not been joined */
	bool begun;			/* vm_begin() was called */
	struct vcpu *vcpus;
	unsigned vcpu_count;	       /* of them; fd is negative until one is created */
	struct gate made;	       /* kvm.vm_fd is there */
	struct gate described;	       /* what the machine is to be like is known; vcpus is there */
	struct gate created;	       /* kvm.vm_fd is there, and as the machine has it */
	struct gate prepared;	       /* the sandbox can be entered */
	struct gate answered;	       /* KVM has said what CPUID it supports */
	struct gate confined;	       /* every thread is in its sandbox, every vCPU created */
	struct gate running;	       /* the first KVM_RUN is next, or will never be */
	struct gate built;	       /* memory and devices are there: vCPUs may be loaded */
	struct foal_error start_error; /* a thread's, before the gate; under end.lock */
	atomic_bool stopping;
	atomic_bool stuck; /* a vCPU is, inside the host's kernel */
	struct quiesce quiesce;
	struct vm_reset reset;
	struct vm_stopper stopper;
	struct vm_end end;
	bool abandoned;		    /* threads of it may still run: nothing of it may be freed */
	struct ept_area *unwritten; /* the first whose write-back failed when it stopped */
	atomic_uint machine_checks; /* that vCPUs were given */
	int console_out;
	FILE *stats_out, *smaps;       /* open from the start: later nothing can be opened */
	uint64_t main_ns;	       /* CLOCK_MONOTONIC at main() */
	_Atomic uint64_t first_run_ns; /* just before the first KVM_RUN */
	struct vm_debt debt;
	uint64_t end_ns; /* when the vCPUs had left */
};

/*
 * What needs nothing to be known of the machine, and takes KVM long: create the VM, ask for
 * CPUID. For who has something to read meanwhile; @vm is all zeros. What fails, vm_begun() returns.
 */
void vm_begin(struct vm *vm);
/* The same of a new one, for run_machine(). NULL: @opt is of a process that will fork another. */
struct vm *vm_begin_ahead(const struct run_options *opt);
/* Wait until there is a VM; vm_begin() comes first, if nobody called it. */
int vm_begun(struct vm *vm, struct foal_error *err);
/* It came to nothing: take apart and free what vm_begin() began, or NULL. */
void vm_forget(struct vm *vm, const struct run_options *opt);

/*
 * After vm_begun(): open files, lay out memory, load the kernel, create devices and vCPUs.
 * @vm was zeroed by the caller but for opt, control, restore, console_out and main_ns.
 * On error vm_destroy() is still to be called.
 */
int vm_build(struct vm *vm, struct foal_error *err);

/*
 * The same in a process that was forked (fork_child.c): @vm has memory and files already, and
 * birth, from which its state is loaded.
 */
int vm_rebuild(struct vm *vm, struct foal_error *err);

struct kvm_machine kvm_machine_of(const struct run_options *opt);

/*
 * Decide how the run ends; the first call counts. Any thread, any time. With
 * @fmt NULL the run ends silently with @status.
 */
void vm_end(struct vm *vm, int status, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/*
 * Get every vCPU out of KVM_RUN, stop the devices, write shared files back,
 * end fault handling. *@unwritten: the first write-back error, vm->unwritten's.
 * False: something hangs that does not answer; threads may go on using the VM, which
 * must be left as it is.
 */
bool vm_stop(struct vm *vm, int *unwritten);
void vm_destroy(struct vm *vm);

/* stop.c: the thread that does it, at hand from the start. 0 or a negative errno. */
void stopper_init(struct vm *vm);
/* Once /dev/kvm is open. Not of a forked VM, whose foal-fork calls stopper_run(). */
int stopper_start(struct vm *vm);
void stopper_run(struct vm *vm);
/* There is nothing to stop: the thread ends. */
void stopper_dismiss(struct vm *vm);
void stopper_destroy(struct vm *vm);
/* Wait for every vCPU thread that was started. */
void vm_join_vcpus(struct vm *vm);

/*
 * What the options say of guest memory; points into @opt. What is told of threads
 * is left to the caller.
 */
struct ept_config vm_space_config(const struct run_options *opt);
/* Its swap file, open as @fd; of use only if the options name one. */
struct ept_swap_file vm_swap_file(const struct run_options *opt, int fd);

uint64_t now_ns(void);

/* --- start.c: the threads ------------------------------------------------------- */

/* Start the first vCPU's thread, once /dev/kvm is open. */
int vm_start_first_vcpu(struct vm *vm, struct foal_error *err);

/* Make the vCPUs' table; that thread is the first one's from then on. */
int vm_make_vcpus(struct vm *vm, struct foal_error *err);

/* Create the VM; it is made what the machine is to be like when that is known. */
int vm_create(struct vm *vm, struct foal_error *err);

/* Wait for it where another thread does that. */
int vm_wait_created(struct vm *vm, struct foal_error *err);

/*
 * On that thread: create the VM, if nobody forked it, and all vCPUs. What fails, vm_start()
 * returns.
 */
void vm_create_vcpus(struct vm *vm);

/* On foal-stop: ask KVM what CPUID it supports; wait for the sandbox. What fails, vm_start()
 * returns.
 */
void vm_read_cpuid(struct vm *vm);

/*
 * Start the other threads of vCPUs and devices, and enter the sandbox: from here
 * on nothing can be opened. Returns when every thread is in it, which is what
 * the vCPUs wait for before they first run; on error none has run or will.
 */
int vm_start(struct vm *vm, struct foal_error *err);

/* Nothing will run: whoever waits for the start does not any more. Any time after vm_build(). */
void vm_give_up(struct vm *vm);

/*
 * Make a thread that takes no signal but those of a crash and @also (0: none): a crash that is
 * blocked would end the process past the handler that restores the terminal. Inherited, so that
 * there is no moment at which it takes another. 0 or a negative errno.
 */
int vm_thread_create(pthread_t *thread, void *(*body)(void *), void *arg, int also);

/* pthread_join() that waits until CLOCK_MONOTONIC is @until at most: 0, or ETIMEDOUT. */
int vm_thread_join(pthread_t thread, const struct timespec *until);

/* A thread is about to be made; by its creator, and for each thread that is to begin. */
void vm_thread_expected(struct vm *vm);
/* The calling thread enters the sandbox. False: it cannot, and the run ends, or never begins. */
bool vm_thread_begins(struct vm *vm, enum thread_kind kind);
/* Of a clone made ahead, on the first vCPU's thread behind that: wait until it is wanted. */
void vm_clocks_back(struct vm *vm);

/* --- boot.c: what lies where in guest memory at the first instruction --------- */

/* Declare every area; before ept_space_start(). */
int boot_declare(struct vm *vm, struct foal_error *err);
/* Write the parts that are no whole file pages, and the boot information. */
int boot_write(struct vm *vm, struct foal_error *err);

/* --- firmware.c: a ROM that boots, instead of a loader of ours ------------------- */

/* Open the ROM that opt->firmware names. */
int firmware_open(struct vm *vm, struct foal_error *err);
/* Declare its areas; before ept_space_start(). */
int firmware_declare(struct vm *vm, struct foal_error *err);
/* Attach fw_cfg and fill it; behind all other devices. */
int firmware_configure(struct vm *vm, struct foal_error *err);

/* --- files.c ------------------------------------------------------------------- */

/* Also starts helpers: no threads but foal-stop and the first vCPU's are there. */
int files_open(struct vm *vm, struct foal_error *err);
void files_close(struct vm *vm);

/*
 * The file of --stats-file, and of --trace, emptied and locked for as long as it is open;
 * never one that a VM uses: FOAL_EXIT_USAGE. The caller closes it.
 */
/* A descriptor, or negative. Before files_open(): the VM's own files are told by their names. */
int stats_file_open(const struct run_options *opt, struct foal_error *err);
/* *@fd is 0 where no trace is wanted. */
int trace_open(const struct run_options *opt, int *fd, struct foal_error *err);

/* --- machine.c: buses, devices, interrupt routes -------------------------------- */

int machine_build(struct vm *vm, struct foal_error *err);

/* --- lost_page.c ----------------------------------------------------------------- */

/*
 * @vcpu, of the calling thread and not in KVM_RUN, got no page: which? If it is found the
 * space has failed, and its failure names it. Waits for storage.
 */
void lost_page_find(const struct vcpu *vcpu);

/* --- vcpu.c ---------------------------------------------------------------------- */

/* Start its thread; 0 or a negative errno. first: of vCPU 0, which need not be there yet. */
int vcpu_start(struct vcpu *vcpu);
int vcpu_start_first(struct vm *vm);
void vcpu_kick(struct vcpu *vcpu);
/* The same by any thread, at any time: one that is gone is not kicked. */
void vcpu_kick_thread(pid_t tid);
/* Install the kick's signal handler; once a process. */
void vcpu_init_kick(void);

/* --- exits.c ----------------------------------------------------------------------- */

/* Serve the exit that KVM_RUN just reported. */
void exit_dispatch(struct vcpu *vcpu);

/* Say where a vCPU stands; it must be out of KVM_RUN. */
void vcpu_print_registers(struct vcpu *vcpu);

/* --- memory_error.c ------------------------------------------------------------------ */

/* Banks of machine check registers that a vCPU has. */
#define MEMORY_ERROR_BANKS 10

/* Give a vCPU that was just created its machine check registers. */
void memory_error_set_up(struct vcpu *vcpu);
/* The calling thread runs @vcpu: its memory errors are this thread's. Before its first KVM_RUN. */
void memory_error_on_vcpu(struct vcpu *vcpu);
/* Of a handler of SIGBUS: is it KVM_RUN's, for the vCPU of this thread? Async-signal-safe. */
bool memory_error_signal(const siginfo_t *info);
/* KVM_RUN came back: if it was for a memory error, serve it. */
bool memory_error_take(struct vcpu *vcpu);
/* @vcpu, out of KVM_RUN, touched memory at @gpa that fails: a machine check, or the end. */
void memory_error_at(struct vcpu *vcpu, gpa_t gpa);

/* --- watchdog.c --------------------------------------------------------------------- */

/* One vCPU at the last look. */
struct vcpu_look {
	struct kvm_pick faults; /* where KVM counts them, once it was looked for */
	bool picked;
	uint64_t taken, resolved; /* its faults */
	uint64_t since;		  /* taken when one was last seen to be resolved */
	unsigned stuck;		  /* looks since then in which any was taken */
	unsigned asked;	 /* looks since the vCPU was asked which page it is; 0: it was not */
	uint64_t rounds; /* as the vCPU has it, and */
	uint64_t waited, kicked; /* ns watched since then; of them, when it was last kicked */
};

struct watchdog {
	struct vcpu_look *vcpus;
	uint64_t looked;   /* now_ns() of the last look */
	bool told;	   /* of the first poisoned page */
	bool swap_trouble; /* was said */
	bool files;	   /* the thread that looks at files is there, or was asked for */
};

#define WATCHDOG_PERIOD_MS (EPT_LOOK_NS / 1000000)

int watchdog_init(struct watchdog *dog, const struct vm *vm);
/* Look for files that shrank, pages that do not come, vCPUs that make no progress. */
void watchdog_look(struct watchdog *dog, struct vm *vm);
/* Faults that KVM has fixed so far, of all vCPUs; 0: it does not say. */
uint64_t watchdog_fixed(struct watchdog *dog, const struct vm *vm);
void watchdog_end(struct watchdog *dog);

#endif
