/*
 * Restore and touch: memory of a snapshot, touched by the bench's guest. The time runs from
 * where a restore begins to open the files (or the plain side maps them) until the guest has
 * touched its pages; the VM around it is made before, and is the same for both.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ept/snapshot.h"
#include "ept/stats.h"
#include "vmm/bench_snapshots.h"
#include "vmm/bench_vm.h"
#include "vmm/helper.h"
#include "vmm/vm.h"

#define TOUCHES	   16384 /* 64 MiB */
#define HOLD_MS	   5000
#define SNAP_MAKE  1024 /* flag: write the snapshot instead */
#define HUGE_BYTES (2UL << 20)

static const uint8_t snap_id[16] = "foal-bench-touc";

/* Of a quick look. */
#define FEW_MIB 64

struct sample {
	unsigned flags, mib;
	size_t touches;
	int memory, index, set;
};

struct touched {
	int status;
	char why[480];
	double ms, cpu_ms;
	uint64_t faults, brought; /* events of ours; pages that came before they were asked for */
};

static int failed(struct foal_error *err, int r, const char *what)
{
	return error_set(err, FOAL_EXIT_INTERNAL, r, "bench: %s: %s", what, strerror(-r));
}

/* --- the snapshot, made once ------------------------------------------------------------- */

static int make_space(uint64_t size, struct ept_space **space)
{
	const struct ept_config config = {
	    .vm_name = "bench", .engine = EPT_ENGINE_KERNEL, .vcpus = 1};
	int r = ept_space_create(&config, space);

	if (r == 0)
		r = ept_area_add(*space, "ram", GPA(BENCH_GPA), size, NULL, NULL);
	return r ? r : ept_space_start(*space);
}

/* Every page has been written, as its number says. */
static void fill(char *hva, uint64_t size)
{
	for (uint64_t at = 0; at < size; at += EPT_PAGE_SIZE) {
		uint64_t *page = (uint64_t *)(hva + at);
		for (size_t i = 0; i < EPT_PAGE_SIZE / sizeof(*page); i++)
			page[i] = BENCH_PATTERN(at / EPT_PAGE_SIZE) ^ (i * i);
	}
}

/* This process is no VM, and has one thread: it freezes the space by itself. */
static int make(const struct sample *s, struct foal_error *err)
{
	struct ept_snapshot_options options = {.memory_fd = s->memory, .index_fd = s->index};
	struct ept_snapshot_info info;
	struct ept_space *space = NULL;
	struct ept_slot slot;
	char why[300] = "";
	int r = make_space((uint64_t)s->mib << 20, &space);

	if (r == 0) {
		ept_space_slots(space, &slot, 1);
		fill(slot.hva, slot.size);
		memcpy(options.id, snap_id, sizeof(snap_id));
		r = ept_snapshot_write(space, &options, &info, why, sizeof(why));
	}
	ept_space_destroy(space);
	return r ? error_set(err, FOAL_EXIT_DISK, r, "bench: a snapshot to touch: %s",
			     why[0] ? why : strerror(-r))
		 : 0;
}

/* --- the two sides ----------------------------------------------------------------------- */

struct side {
	struct ept_space *space;
	struct ept_snapshot *snapshot;
	struct ept_working_set *set;
	struct ept_slot slot;
};

static int our_side(const struct sample *s, struct side *side, char *why, size_t size)
{
	struct run_options opt;
	int r;

	options_defaults(&opt);
	opt.huge = s->flags & (SNAP_HUGE | SNAP_ALL) ? EPT_HUGE_ALWAYS : EPT_HUGE_AUTO;
	struct ept_config config = vm_space_config(&opt);
	options_free(&opt);
	config.vm_name = "bench";
	r = ept_snapshot_open(s->memory, s->index, "the bench's snapshot", &side->snapshot, why,
			      size);
	if (r == 0)
		r = ept_space_create(&config, &side->space);
	if (r == 0)
		r = ept_area_add(side->space, "ram", GPA(BENCH_GPA), (uint64_t)s->mib << 20, NULL,
				 NULL);
	if (r == 0)
		r = ept_space_restore(side->space, &side->snapshot, 1, why, size);
	if (r == 0 && s->flags & SNAP_SET)
		r = ept_working_set_open(s->set, snap_id, &side->set);
	if (r == 0 && side->set)
		r = ept_space_prefetch(side->space, side->set);
	if (r == 0 && s->flags & SNAP_ALL)
		r = ept_space_prefetch_all(side->space);
	if (r == 0 && s->flags & SNAP_RECORD)
		r = ept_space_record(side->space);
	else if (r == 0)
		r = ept_space_prefetch_rest(side->space);
	if (r == 0)
		r = ept_space_start(side->space);
	if (r == 0)
		ept_space_slots(side->space, &side->slot, 1);
	return r;
}

/* The file as it is, aligned as huge pages of it would want it. */
static int plain_side(const struct sample *s, struct side *side)
{
	uint64_t size = (uint64_t)s->mib << 20;
	char *room = mmap(NULL, size + HUGE_BYTES, PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	char *hva = room + (HUGE_BYTES - (uintptr_t)room % HUGE_BYTES);

	if (room == MAP_FAILED ||
	    mmap(hva, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE,
		 s->memory, 0) == MAP_FAILED)
		return -errno;
	side->slot = (struct ept_slot){.gpa = GPA(BENCH_GPA), .size = size, .hva = hva};
	return 0;
}

static int restore_side(const struct sample *s, struct side *side, struct foal_error *err)
{
	char why[300] = "";
	int r = s->flags & SNAP_PLAIN ? plain_side(s, side) : our_side(s, side, why, sizeof(why));

	return r ? error_set(err, FOAL_EXIT_MEMORY, r, "bench: restored memory: %s",
			     why[0] ? why : strerror(-r))
		 : 0;
}

static void end_side(const struct sample *s, struct side *side, struct touched *out)
{
	struct ept_prefetch_stats stats;
	uint64_t by_origin[EPT_NR_ORIGINS];

	if (!side->space)
		return;
	ept_space_prefetch_wait(side->space, 0); /* it may have more to do than was asked for */
	ept_prefetch_stats(side->space, &stats);
	out->brought = stats.brought;
	ept_space_events(side->space, by_origin);
	for (unsigned i = 0; i < EPT_NR_ORIGINS; i++)
		out->faults += by_origin[i];
	ept_space_stop(side->space);
	if (s->flags & SNAP_RECORD && ept_working_set_save(side->space, snap_id, s->set) <= 0)
		out->status = FOAL_EXIT_INTERNAL;
	ept_space_destroy(side->space);
	ept_working_set_close(side->set);
	ept_snapshot_close(side->snapshot);
}

/* --- measuring --------------------------------------------------------------------------- */

/* Pages at random, the same in each run, none twice. */
static int give_job(struct bench_vm *vm, const struct sample *s, uint64_t *sum)
{
	const struct bench_case c = {
	    .pattern = BENCH_RANDOM, .backing = BENCH_PRIVATE, .mib = s->mib, .percent = 100};
	size_t count;
	uint32_t *order = bench_order(&c, s->touches, &count);

	if (!order)
		return -ENOMEM;
	memcpy(vm->low + BENCH_ORDER_GPA, order, count * sizeof(*order));
	*sum = 0;
	for (size_t i = 0; i < count; i++)
		*sum += BENCH_PATTERN((uint64_t)order[i]);
	free(order);
	*vm->job = (struct bench_job){
	    .cpus = 1, .ordered = true, .touches = (uint32_t)count, .base = BENCH_GPA};
	return 0;
}

static int set_cache(const struct sample *s, struct foal_error *err)
{
	const int files[] = {s->memory, s->index, s->set};
	int r = 0;

	for (size_t i = 0; i < 3 && r == 0; i++)
		r = s->flags & SNAP_COLD ? bench_file_drop(files[i]) : bench_file_warm(files[i]);
	if (r && (s->flags & SNAP_RECORD || !(s->flags & SNAP_COLD)))
		r = 0; /* an empty file; or one that is too large to be looked at */
	return r ? error_set(err, FOAL_EXIT_HOST, r,
			     "this file system does not let go of its cache")
		 : 0;
}

static int run(const struct sample *s, struct bench_vm *vm, struct side *side, uint64_t sum,
	       struct touched *out, struct foal_error *err)
{
	uint64_t start;
	int r;

	if ((r = bench_vm_start(vm, NULL, err)) || (r = bench_vm_go(vm, BENCH_READY, err)) ||
	    (r = set_cache(s, err)))
		return r;
	out->cpu_ms = -bench_cpu_us() / 1e3;
	start = now_ns();
	if ((r = restore_side(s, side, err)))
		return r;
	vm->space = side->space;
	if ((r = kvm_add_slot(&vm->kvm, &side->slot, err)) ||
	    (r = bench_vm_go(vm, BENCH_TOUCHED, err)))
		return r;
	out->ms = (double)(now_ns() - start) / 1e6;
	out->cpu_ms += bench_cpu_us() / 1e3;
	r = bench_vm_go(vm, BENCH_FINISHED, err);
	if (r == 0 && vm->job->cpu[0].sum != sum)
		r = error_set(err, FOAL_EXIT_INTERNAL, -EIO,
			      "bench: the guest found other bytes than it should");
	return r;
}

static int measure(const struct sample *s, struct touched *out, struct foal_error *err)
{
	struct side side = {0};
	struct run_options opt;
	struct bench_vm vm;
	uint64_t sum;

	options_defaults(&opt);
	struct kvm_machine machine = kvm_machine_of(&opt);
	int r = bench_vm_create(&vm, &machine, BENCH_LOW_SIZE, err);

	if (r == 0 && (r = give_job(&vm, s, &sum)))
		failed(err, r, "the order of touches");
	if (r == 0)
		r = run(s, &vm, &side, sum, out, err);
	if (r == 0) {
		bench_vm_destroy(&vm);
		end_side(s, &side, out);
	}
	options_free(&opt);
	return r;
}

/* --- the process ------------------------------------------------------------------------- */

/* bench-touch FLAGS MIB TOUCHES MEMORY_FD INDEX_FD SET_FD */
int command_bench_touch(int argc, char **argv, uint64_t main_ns)
{
	struct touched result = {0};
	struct foal_error err = {0};

	(void)main_ns;
	if (argc != 7) {
		error_set(&err, FOAL_EXIT_USAGE, -EINVAL, "bench-touch: foal bench starts this");
		error_print(&err);
		return err.status;
	}
	struct sample s = {.flags = (unsigned)strtoul(argv[1], NULL, 10),
			   .mib = (unsigned)strtoul(argv[2], NULL, 10),
			   .touches = strtoul(argv[3], NULL, 10),
			   .memory = (int)strtol(argv[4], NULL, 10),
			   .index = (int)strtol(argv[5], NULL, 10),
			   .set = (int)strtol(argv[6], NULL, 10)};
	if (s.flags & SNAP_MAKE ? make(&s, &err) : measure(&s, &result, &err)) {
		result.status = err.status ? err.status : FOAL_EXIT_INTERNAL;
		snprintf(result.why, sizeof(result.why), "%s", err.text);
	}
	bool written = write(STDOUT_FILENO, &result, sizeof(result)) == sizeof(result);
	return written ? 0 : FOAL_EXIT_INTERNAL;
}

static int sample(struct snap_bench *bench, const struct snap_case *c, unsigned flags,
		  struct touched *result)
{
	size_t touches =
	    bench->opt->pages && bench->opt->pages < TOUCHES ? bench->opt->pages : TOUCHES;
	char words[6][24];
	char *argv[] = {"foal",	  "bench-touch", words[0], words[1], words[2],
			words[3], words[4],	 words[5], NULL};
	unsigned mib = bench->opt->pages ? FEW_MIB : c->mib;
	const unsigned long numbers[] = {flags,
					 mib,
					 touches,
					 (unsigned long)bench->memory,
					 (unsigned long)bench->index,
					 (unsigned long)bench->set};
	size_t got = 0;
	ssize_t n;
	int out;

	/* What both sides take, and what 2 MiB pages do. */
	bench_warm_bytes(&bench->warm, flags & (SNAP_HUGE | SNAP_ALL)
					   ? (uint64_t)mib << 20
					   : 3 * touches * EPT_PAGE_SIZE);
	for (size_t i = 0; i < 6; i++)
		snprintf(words[i], sizeof(words[i]), "%lu", numbers[i]);
	pid_t pid = helper_self(argv, &out);
	if (pid < 0)
		return snap_cannot(bench, "a process cannot be started");
	while (got < sizeof(*result) &&
	       (n = read(out, (char *)result + got, sizeof(*result) - got)) > 0)
		got += (size_t)n;
	close(out);
	waitpid(pid, NULL, 0);
	if (got < sizeof(*result))
		return snap_cannot(bench, "its process ended early");
	return result->status ? snap_cannot(bench, "%s", result->why) : 0;
}

/* The files have no name, and are inherited. */
static int make_files(struct snap_bench *bench, const struct snap_case *c)
{
	int *const fds[] = {&bench->memory, &bench->index, &bench->set};
	struct foal_error err = {0};
	struct touched made;
	int r = 0;

	for (size_t i = 0; i < 3; i++)
		if ((*fds[i] = bench_file_empty(bench->dir, &err)) < 0)
			return snap_cannot(bench, "%s", err.text);
	r = sample(bench, c, SNAP_MAKE, &made);
	return r ? r : sample(bench, c, SNAP_RECORD, &made);
}

static int touch_plain(struct snap_bench *bench, const struct snap_case *c, struct snap_pair *out)
{
	struct touched plain = {0};
	int r = sample(bench, c, (c->flags & SNAP_COLD) | SNAP_PLAIN, &plain);

	out->plain = plain.ms;
	out->cpu_plain = plain.cpu_ms;
	return r;
}

static int touch_ours(struct snap_bench *bench, const struct snap_case *c, struct snap_pair *out)
{
	struct touched ours = {0};
	int r = sample(bench, c, c->flags, &ours);

	out->ours = ours.ms;
	out->cpu = ours.cpu_ms;
	out->faults = ours.faults;
	out->brought = ours.brought;
	return r;
}

int snap_touch(struct snap_bench *bench, const struct snap_case *c, unsigned round,
	       struct snap_pair *out)
{
	int r = bench->memory < 0 ? make_files(bench, c) : 0;

	return r ? r : snap_in_turn(bench, c, round, touch_plain, touch_ours, out);
}
