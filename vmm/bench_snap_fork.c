/*
 * Forks of a VM whose guest writes memory all the time: by foal, and by the least program that
 * does the same (`foal bench-fork`), a process with a plain VM that calls fork() while its guest
 * runs. Both run the same guest, which tells the longest time between two of its writes, and both
 * are talked to in the same way: the guest's COM1 is a pipe.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/bench_snapshots.h"
#include "vmm/bench_vm.h"
#include "vmm/fork.h"
#include "vmm/helper.h"
#include "vmm/vm.h"

/* RAM of which 1 GiB lies at BENCH_GPA. */
#define LARGE_RAM  "4G"
#define HUGE_BYTES (2UL << 20)
/* What the fork and the first copies take at once, with bench_warm_bytes()' own part. */
#define FORK_TAKES (64UL << 20)
/* Of what was forked, its guest writes this part of memory, again and again. */
#define CHILD_PART 16
/* A byte for the plain side, not for its guest: fork. */
#define FORK_NOW   '!'
/* What it says then, and in milliseconds how long fork() took that counts. */
#define FORKED	   "forked "

/* Looks at COM1 that the guest has behind a fork before it is asked: it sees the first copies. */
#define LOOKS_ON   256

/* Between two looks whether the guest still runs. */
#define LOOK_MS	   500

#define COM1	   0x3f8
#define COM1_LSR   (COM1 + 5)
#define LSR_IDLE   0x60
#define LSR_DATA   0x01

/* --- the plain side: foal bench-fork MIB TOUCHES HUGE AGAIN -------------------------------- */

struct plain {
	uint64_t size;
	uint32_t touches;
	bool huge, again;
	struct ept_slot slot;
	struct bench_vm vm;
	atomic_bool byte_came;	/* for the guest, */
	atomic_uint looks_left; /* which sees it so many looks later */
	bool quiet;		/* what the guest says is not heard */
};

static bool shows_byte(struct plain *p)
{
	if (atomic_load(&p->looks_left) == 0)
		return atomic_load(&p->byte_came);
	atomic_fetch_sub(&p->looks_left, 1);
	return false;
}

/* The guest's COM1 of which it uses three things: a byte said, whether one came, that byte. */
static bool com1(void *arg, struct kvm_run *run)
{
	struct plain *p = arg;

	if (run->exit_reason != KVM_EXIT_IO || run->io.port < COM1 || run->io.port > COM1 + 7)
		return false;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;
	bool out = run->io.direction == KVM_EXIT_IO_OUT;
	if (run->io.port == COM1 && out)
		return p->quiet || write(STDOUT_FILENO, data, 1) == 1;
	if (out)
		return true;
	*data = 0;
	if (run->io.port == COM1_LSR)
		*data = LSR_IDLE | (shows_byte(p) ? LSR_DATA : 0);
	else if (run->io.port == COM1)
		atomic_store(&p->byte_came, false);
	return true;
}

/* As `foal run --huge always` or `never` has it. */
static int make_memory(struct plain *p)
{
	char *room = mmap(NULL, p->size + HUGE_BYTES, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (room == MAP_FAILED)
		return -ENOMEM;
	p->slot = (struct ept_slot){.gpa = GPA(BENCH_GPA),
				    .size = p->size,
				    .hva = room + (HUGE_BYTES - (uintptr_t)room % HUGE_BYTES)};
	madvise(p->slot.hva, p->size, p->huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	return 0;
}

static int start_guest(struct plain *p, uint32_t touches, struct foal_error *err)
{
	struct run_options opt;
	int r;

	options_defaults(&opt);
	struct kvm_machine machine = kvm_machine_of(&opt);
	options_free(&opt);
	r = bench_vm_create(&p->vm, &machine, BENCH_LOW_SIZE, err);
	if (r)
		return r;
	p->vm.answer = com1;
	p->vm.answer_arg = p;
	*p->vm.job = (struct bench_job){
	    .cpus = 1, .serial = 1, .write = 1, .gap = 1, .touches = touches, .base = BENCH_GPA};
	r = kvm_add_slot(&p->vm.kvm, &p->slot, err);
	return r ? r : bench_vm_start(&p->vm, NULL, err);
}

static bool has_failed(struct plain *p)
{
	pthread_mutex_lock(&p->vm.lock);
	bool failed = p->vm.failed;
	pthread_mutex_unlock(&p->vm.lock);
	return failed;
}

/* Until this one ends, too. It has what it was forked with: what either writes is copied. */
static _Noreturn void be_a_copy(pid_t parent)
{
	helper_dies_with(parent);
	for (;;)
		pause();
}

/* How long fork() took, in milliseconds; negative: it failed. */
static double fork_it(void)
{
	const pid_t self = getpid();
	uint64_t start = now_ns();
	pid_t pid = fork();

	if (pid == 0)
		be_a_copy(self);
	return pid < 0 ? -1 : (double)(now_ns() - start) / 1e6;
}

static void say_forked(struct plain *p, double ms)
{
	atomic_store(&p->looks_left, LOOKS_ON);
	dprintf(STDOUT_FILENO, FORKED "%.3f\n", ms);
}

/* What was forked runs a VM with the memory that it has, as a fork of foal's does, and is forked.
 */
static _Noreturn void fork_once_more(struct plain *p, pid_t parent)
{
	struct foal_error err = {0};

	helper_dies_with(parent);
	p->quiet = true;
	atomic_store(&p->byte_came, true); /* its guest goes on at once */
	if (start_guest(p, p->touches / CHILD_PART, &err)) {
		error_print(&err);
		process_end(err.status);
	}
	while (atomic_load(&p->byte_came) && !has_failed(p))
		poll(NULL, 0, 1);
	say_forked(p, has_failed(p) ? -1 : fork_it());
	be_a_copy(parent);
}

static void fork_now(struct plain *p)
{
	if (!p->again) {
		say_forked(p, fork_it());
		return;
	}
	const pid_t self = getpid();
	pid_t pid = fork();
	if (pid == 0)
		fork_once_more(p, self);
	if (pid < 0)
		say_forked(p, -1);
}

/* Bytes are the guest's but for FORK_NOW. Until there are no more, or the guest is gone. */
static int serve(struct plain *p)
{
	struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
	char byte;

	while (!has_failed(p)) {
		if (poll(&input, 1, LOOK_MS) == 0)
			continue;
		if (read(STDIN_FILENO, &byte, 1) != 1)
			return 0;
		if (byte == FORK_NOW)
			fork_now(p);
		else
			atomic_store(&p->byte_came, true);
	}
	error_print(&p->vm.error);
	return FOAL_EXIT_INTERNAL;
}

int command_bench_fork(int argc, char **argv, uint64_t main_ns)
{
	static struct plain p;
	struct foal_error err = {0};

	(void)main_ns;
	if (argc != 5) {
		error_set(&err, FOAL_EXIT_USAGE, -EINVAL, "bench-fork: foal bench starts this");
		error_print(&err);
		return err.status;
	}
	p = (struct plain){.size = strtoul(argv[1], NULL, 10) << 20,
			   .touches = (uint32_t)strtoul(argv[2], NULL, 10),
			   .huge = argv[3][0] == '1',
			   .again = argv[4][0] == '1'};
	if (make_memory(&p))
		error_set(&err, FOAL_EXIT_MEMORY, -ENOMEM, "bench-fork: memory");
	else if (start_guest(&p, p.touches, &err) == 0)
		process_end(serve(&p)); /* its vCPU runs */
	error_print(&err);
	return err.status;
}

/* --- the two sides -------------------------------------------------------------------------- */

static uint32_t pages_of(const struct snap_bench *bench, const struct snap_case *c)
{
	return bench->opt->pages ? (uint32_t)bench->opt->pages : c->mib << 8;
}

static int start_ours(struct snap_bench *bench, const struct snap_case *c, struct snap_job *vm)
{
	const struct bench_job writing = {.cpus = 1,
					  .serial = 1,
					  .write = 1,
					  .gap = 1,
					  .touches = pages_of(bench, c),
					  .base = BENCH_GPA};

	return snap_start_guest(bench, "forked", &writing, LARGE_RAM,
				c->flags & SNAP_HUGE ? "always" : "never", vm);
}

static int start_plain(struct snap_bench *bench, const struct snap_case *c, struct snap_job *vm)
{
	char mib[16], touches[16], text[64];
	char *argv[] = {"foal",
			"bench-fork",
			mib,
			touches,
			c->flags & SNAP_HUGE ? "1" : "0",
			c->flags & SNAP_AGAIN ? "1" : "0",
			NULL};

	snprintf(mib, sizeof(mib), "%u", c->mib);
	snprintf(touches, sizeof(touches), "%u", pages_of(bench, c));
	if (snap_start_self(bench, argv, false, vm))
		return -1;
	if (snap_hear(vm, "ready\n", text, sizeof(text)) == 0)
		return 0;
	snap_kill(vm);
	return snap_cannot(bench, "a plain VM did not get as far as touching its memory");
}

/* What a fork takes was touched just before, then the guest writes: it says so. */
static int begin(struct snap_bench *bench, struct snap_job *vm)
{
	char text[64];

	bench_warm_bytes(&bench->warm, FORK_TAKES);
	if (write(vm->in, "x", 1) == 1 && snap_hear(vm, "\n", text, sizeof(text)) == 0)
		return 0;
	return snap_cannot(bench, "the guest does not begin to write");
}

/* What the guest says of itself, in milliseconds. */
static int ask_gap(struct snap_bench *bench, struct snap_job *vm, double *ms)
{
	char text[512];

	if (write(vm->in, "x", 1) != 1 || snap_hear(vm, ".", text, sizeof(text)))
		return snap_cannot(bench, "the guest does not tell of gaps");
	*ms = (double)strtoull(text, NULL, 16) / bench_tsc_khz();
	return 0;
}

static json_t *fork_vm(struct snap_bench *bench, const char *name, const char *child)
{
	char *argv[] = {"foal",	  "fork",	 "--run-dir",  bench->dir, "--json",
			"--name", (char *)child, (char *)name, NULL};

	return snap_ask(bench, argv);
}

/* @paused: of the fork that counts. */
static int fork_ours(struct snap_bench *bench, bool again, double *paused)
{
	json_t *said = fork_vm(bench, "forked", "child");

	if (said && again) {
		bench_warm_bytes(&bench->warm, FORK_TAKES);
		json_decref(said);
		said = fork_vm(bench, "child", "grandchild");
		snap_stop_vm(bench, "grandchild");
	}
	*paused = snap_number(said, "paused_ns") / 1e6;
	json_decref(said);
	return said ? 0 : -1;
}

static int fork_plain(struct snap_bench *bench, struct snap_job *vm, double *took)
{
	const char byte = FORK_NOW;
	char text[64];

	if (write(vm->in, &byte, 1) != 1 || snap_hear(vm, "\n", text, sizeof(text)))
		return snap_cannot(bench, "a plain VM is not forked");
	*took = strtod(text + strlen(FORKED), NULL);
	return *took > 0 ? 0 : snap_cannot(bench, "fork() of a plain VM fails");
}

/* A side's sample; of a fork of a fork, how long that one took, else the guest's gap. */
static int sample(struct snap_bench *bench, const struct snap_case *c, bool plain, double *ms)
{
	bool again = c->flags & SNAP_AGAIN;
	struct snap_job vm;
	int r;

	bench_warm_bytes(&bench->warm, (uint64_t)c->mib << 20);
	r = plain ? start_plain(bench, c, &vm) : start_ours(bench, c, &vm);
	if (r)
		return r;
	r = begin(bench, &vm);
	if (r == 0)
		r = plain ? fork_plain(bench, &vm, ms) : fork_ours(bench, again, ms);
	if (r == 0 && !again)
		r = ask_gap(bench, &vm, ms);
	if (!plain)
		snap_stop_vm(bench, "child");
	snap_kill(&vm);
	return r;
}

int snap_fork(struct snap_bench *bench, const struct snap_case *c, unsigned round,
	      struct snap_pair *out)
{
	bool plain_first = round / c->shared % 2;
	int r = 0;

	if (plain_first)
		r = sample(bench, c, true, &out->plain);
	if (r == 0)
		r = sample(bench, c, false, &out->ours);
	if (r == 0 && !plain_first)
		r = sample(bench, c, true, &out->plain);
	return r;
}
