/* One sample: one side of a case, measured in this process; and having one measured in another. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ept/stats.h"
#include "vmm/bench.h"
#include "vmm/bench_vm.h"
#include "vmm/helper.h"
#include "vmm/vm.h"

#define HUGE	    (2UL << 20)
#define MAX_OPTIONS 16

/* The memory that is measured: a space's, or a mapping. */
struct memory {
	struct ept_space *space;
	struct ept_slot slot; /* all of it, where it lies here */
};

/* --- our side ------------------------------------------------------------------------- */

/* What `foal run` makes of the case's options. @words has to live as long as @out. */
static int parse(const struct bench_sample *sample, char *words, struct run_options *out,
		 struct foal_error *err)
{
	char *argv[MAX_OPTIONS] = {"run", "--kernel", "none"}, *save, file[32];
	int argc = 3;

	snprintf(file, sizeof(file), "/proc/self/fd/%d", sample->swap);
	for (char *word = strtok_r(words, " ", &save); word && argc < MAX_OPTIONS - 1;
	     word = strtok_r(NULL, " ", &save))
		argv[argc++] = strcmp(word, "FILE") ? word : file;
	optind = 0; /* getopt(3): begin anew */
	int r = options_parse(argc, argv, out, err);
	if (r == 0) {
		out->cpus = sample->cpus;
		out->memory = (uint64_t)sample->c->mib << 20;
		out->rip_sample = 0; /* its vCPUs are not asked */
	}
	return r;
}

static int declare(struct ept_space *space, const struct bench_sample *sample, uint64_t size)
{
	enum ept_file_mode mode =
	    sample->c->backing == BENCH_SHARED ? EPT_FILE_SHARED : EPT_FILE_COW;
	struct ept_object *obj = NULL;
	int r;

	if (sample->c->backing == BENCH_ANON)
		return ept_area_add(space, "ram-high", GPA(BENCH_GPA), size, NULL, NULL);
	r = ept_object_file(sample->file, "the bench's file", 0, size, mode, &obj);
	if (r == 0 && sample->c->cached)
		r = bench_fill_cache(obj, size);
	if (r == 0)
		r = ept_area_add(space, "pmem0", GPA(BENCH_GPA), size, obj, NULL);
	ept_object_put(obj);
	return r;
}

static int our_memory(const struct bench_sample *sample, const struct run_options *opt,
		      struct memory *out, struct foal_error *err)
{
	struct ept_config config = vm_space_config(opt);
	struct ept_swap_file swap = vm_swap_file(opt, -1);
	int r = 0;

	if (opt->limit.swap) {
		r = ftruncate(sample->swap, 0) ? -errno : swap_open(&opt->limit, &swap.fd, err);
		if (r)
			return r;
		config.swap = &swap;
	}
	r = ept_space_create(&config, &out->space);
	if (swap.fd >= 0)
		close(swap.fd);
	if (r)
		return error_set(err, FOAL_EXIT_HOST, r, "userfaultfd: %s; see foal doctor",
				 strerror(-r));
	r = declare(out->space, sample, (uint64_t)sample->c->mib << 20);
	if (r == 0)
		r = ept_space_start(out->space);
	if (r)
		return error_set(err, FOAL_EXIT_MEMORY, r, "bench: guest memory: %s", strerror(-r));
	ept_space_slots(out->space, &out->slot, 1);
	return 0;
}

/* --- the plain side --------------------------------------------------------------------- */

/* A mapping in one piece, with the alignment that huge pages want, though it is not to have any. */
static int plain_memory(const struct bench_sample *sample, struct memory *out,
			struct foal_error *err)
{
	bool anon = sample->c->backing == BENCH_ANON;
	int flags = sample->c->backing == BENCH_SHARED ? MAP_SHARED : MAP_PRIVATE;
	uint64_t size = (uint64_t)sample->c->mib << 20;
	char *room =
	    mmap(NULL, size + HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	char *hva;

	if (room == MAP_FAILED)
		goto fail;
	hva = room + (HUGE - (uintptr_t)room % HUGE);
	if (mmap(hva, size, PROT_READ | PROT_WRITE,
		 flags | MAP_FIXED | MAP_NORESERVE | (anon ? MAP_ANONYMOUS : 0),
		 anon ? -1 : sample->file, 0) == MAP_FAILED)
		goto fail;
	if (anon)
		madvise(hva, size, sample->c->plain_huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	out->slot = (struct ept_slot){.gpa = GPA(BENCH_GPA), .size = size, .hva = hva};
	return 0;
fail:
	return error_set(err, FOAL_EXIT_MEMORY, -errno, "bench: the plain mapping: %s",
			 strerror(errno));
}

/* --- measuring ---------------------------------------------------------------------------- */

static int count_pages(const uint32_t *order, size_t touches, uint64_t pages, uint64_t *count)
{
	char *seen = calloc(pages, 1);

	*count = 0;
	for (size_t i = 0; seen && i < touches; i++) {
		*count += !seen[order[i]];
		seen[order[i]] = 1;
	}
	free(seen);
	return seen ? 0 : -ENOMEM;
}

/* Do touches follow in which each page was touched once? */
static bool is_drawn(const struct bench_case *c)
{
	return c->pattern == BENCH_UNIFORM || c->pattern == BENCH_SKEWED;
}

/* Fill in the job. @sum: what the first words of all pages touched add up to after it. */
static int give_job(struct bench_vm *vm, const struct bench_sample *sample,
		    struct bench_result *result, uint64_t *sum)
{
	const struct bench_case *c = sample->c;
	size_t touches;

	if (c->exit) {
		bench_exit_job(vm, sample, result);
		*sum = bench_exit_sum(c, result->touches);
		return 0;
	}
	uint32_t *order = bench_order(c, sample->limit, &touches);
	int r =
	    order ? count_pages(order, touches, (uint64_t)c->mib << 8, &result->pages) : -ENOMEM;

	if (r == 0 && touches > BENCH_MAX_TOUCHES)
		r = -E2BIG;
	if (r == 0)
		memcpy(vm->low + BENCH_ORDER_GPA, order, touches * sizeof(*order));
	*sum = 0;
	size_t summed = is_drawn(c) ? result->pages : touches;
	for (size_t i = 0; r == 0 && i < summed; i++)
		if (c->backing != BENCH_ANON || c->write)
			*sum += BENCH_PATTERN((uint64_t)order[i]);
	free(order);
	*vm->job = (struct bench_job){.cpus = sample->cpus,
				      .write = c->write,
				      .read_before = c->read_before,
				      .ordered = true,
				      .base = BENCH_GPA,
				      .touches = (uint32_t)touches,
				      .stamped = c->exits || c->stamped,
				      .first = is_drawn(c) ? (uint32_t)result->pages : 0};
	result->touches = touches;
	return r;
}

static int set_cache(const struct bench_sample *sample, struct foal_error *err)
{
	int r = 0;

	if (sample->c->backing != BENCH_ANON)
		r = sample->c->cold ? bench_file_drop(sample->file) : bench_file_warm(sample->file);
	return r ? error_set(err, FOAL_EXIT_HOST, r,
			     sample->c->cold ? "this file system does not let go of its cache"
					     : "the file does not stay in the page cache")
		 : 0;
}

static int enter_group(const struct bench_sample *sample, struct foal_error *err)
{
	int r = sample->group[0] ? bench_group_enter(sample->group, getpid()) : 0;

	return r ? error_set(err, FOAL_EXIT_HOST, r, "the memory cgroup: %s", strerror(-r)) : 0;
}

/* The slowest vCPU's time, and what they found in memory. */
static int read_job(const struct bench_vm *vm, const struct bench_sample *sample, uint64_t sum,
		    struct bench_result *result, struct foal_error *err)
{
	int khz = ioctl(vm->kvm.vm_fd, KVM_GET_TSC_KHZ, 0);
	uint64_t longest = 0, found = 0;

	for (unsigned i = 0; i < vm->cpus; i++) {
		uint64_t cycles = vm->job->cpu[i].end - vm->job->cpu[i].start;
		longest = cycles > longest ? cycles : longest;
		found += vm->job->cpu[i].sum;
		result->ticks += vm->job->cpu[i].ticks;
	}
	if (khz <= 0)
		return error_set(err, FOAL_EXIT_HOST, -ENOTSUP, "KVM does not tell the TSC's rate");
	if (found != sum)
		return error_set(err, FOAL_EXIT_INTERNAL, -EIO,
				 "bench: the guest found other bytes than it should");
	if (sample->c->exits) {
		result->value[BENCH_TIME] = bench_chunk_cycles(vm) * 1000 / khz -
					    (vm->job->exit == BENCH_HALT ? BENCH_HALT_NS / 1e3 : 0);
		return 0;
	}
	double us = (double)longest * 1000 / khz;
	double mid = (double)(vm->job->cpu[0].mid - vm->job->cpu[0].start) * 1000 / khz;
	size_t again = result->touches - vm->job->first;
	result->value[BENCH_TIME] = us / (double)result->touches;
	result->value[BENCH_MIDDLE] = sample->c->stamped ? bench_chunk_cycles(vm) * 1000 / khz : 0;
	result->value[BENCH_FIRST] = vm->job->first ? mid / vm->job->first : 0;
	result->value[BENCH_STEADY] = again ? (us - mid) / (double)again : 0;
	result->value[BENCH_RATE] = (double)result->touches * 1e6 / us;
	return 0;
}

static double grown(uint64_t before, uint64_t after)
{
	return after > before ? (double)(after - before) : 0;
}

/* KVM's own worker reads for the vCPU, too, so the cache tells what a process's count does not. */
static void compare_usage(const struct bench_usage *before, const struct bench_usage *after,
			  struct bench_result *result)
{
	double read = grown(before->read, after->read), cache = grown(before->cache, after->cache);

	result->value[BENCH_OWN] = grown(before->own, after->own) / 1024;
	result->value[BENCH_READ] = (read > cache ? read : cache) / 1024;
}

/* Of events, what was counted by now: but for one or two of the last, all. */
static void count_events(const struct ept_space *space, struct bench_result *result)
{
	uint64_t by_origin[EPT_NR_ORIGINS];

	ept_space_events(space, by_origin);
	for (unsigned i = 0; i < EPT_NR_ORIGINS; i++)
		result->faults += by_origin[i];
	for (unsigned c = 0; c < EPT_NR_CASES; c++)
		for (size_t area = 0; area <= ept_area_count(space); area++) {
			struct ept_case_stats stats;

			ept_area_case_stats(space, area, (enum ept_case)c, &stats);
			result->cases[c] += stats.faults;
		}
}

/* From where the guest is ready to where it has done all of it, and what that took. */
static int time_guest(struct bench_vm *vm, const struct bench_sample *sample,
		      struct bench_result *result, struct foal_error *err)
{
	uint64_t kvm[BENCH_NR_KVM];
	struct bench_usage before, after;

	bench_usage(sample->file, &before);
	result->has_kvm = bench_kvm_counts(vm, kvm);
	double cpu = bench_cpu_us();
	int r = bench_vm_go(vm, BENCH_TOUCHED, err);
	if (r)
		return r;
	result->cpu_us = (bench_cpu_us() - cpu) / (double)result->touches;
	result->has_kvm = result->has_kvm && bench_kvm_counts(vm, result->kvm);
	for (unsigned i = 0; i < BENCH_NR_KVM && result->has_kvm; i++)
		result->kvm[i] -= kvm[i];
	bench_usage(sample->file, &after);
	compare_usage(&before, &after, result);
	return 0;
}

static int run_guest(struct bench_vm *vm, const struct memory *memory,
		     const struct bench_sample *sample, struct bench_result *result,
		     struct foal_error *err)
{
	static struct bench_taker taker; /* of a vCPU that may run on to the process's end */
	pid_t self = getpid();
	uint64_t sum;
	int r = give_job(vm, sample, result, &sum);

	if (r)
		return error_set(err, FOAL_EXIT_HOST, r, "bench: the order of touches: %s",
				 strerror(-r));
	vm->short_of_memory = sample->group[0];
	if ((r = bench_taker_begin(&taker, vm, sample, err)) ||
	    (r = bench_vm_start(vm, memory->space, err)) ||
	    (r = bench_vm_go(vm, BENCH_READY, err)) || (r = set_cache(sample, err)) ||
	    (r = enter_group(sample, err)))
		return r;
	r = time_guest(vm, sample, result, err);
	if (r == 0)
		r = bench_taker_end(&taker, sample, result, err);
	if (r)
		return r;
	result->value[BENCH_MEMORY] = (double)bench_host_memory(&self, 1, sample->file) / (1 << 20);
	result->installed = bench_mapped(memory->slot.hva, memory->slot.size);
	if (memory->space)
		count_events(memory->space, result);
	r = bench_vm_go(vm, BENCH_FINISHED, err);
	return r ? r : read_job(vm, sample, sum, result, err);
}

/* What is not measured has none. */
static int make_memory(const struct bench_sample *sample, const struct run_options *opt,
		       struct memory *out, struct foal_error *err)
{
	if (sample->c->exit)
		return 0;
	return sample->ours ? our_memory(sample, opt, out, err) : plain_memory(sample, out, err);
}

/* Of BENCH_HALT the other side is a guest that HLT does not leave. */
static struct kvm_machine machine_of(const struct bench_sample *sample,
				     const struct run_options *opt)
{
	struct kvm_machine machine = kvm_machine_of(opt);

	if (sample->c->exit == BENCH_HALT && !sample->ours)
		machine.halt_exits = false;
	return machine;
}

static int measure(const struct bench_sample *sample, struct bench_result *result,
		   struct foal_error *err)
{
	struct memory memory = {0};
	struct run_options opt;
	struct bench_vm vm;
	char words[256];

	snprintf(words, sizeof(words), "%s", sample->c->options);
	int r = parse(sample, words, &opt, err);
	if (r)
		return r;
	if (sample->unlogged)
		opt.fault_log = false;
	r = make_memory(sample, &opt, &memory, err);
	if (r == 0) {
		struct kvm_machine machine = machine_of(sample, &opt);
		r = bench_vm_create(&vm, &machine, BENCH_LOW_SIZE, err);
		if (r == 0 && memory.slot.size)
			r = kvm_add_slot(&vm.kvm, &memory.slot, err);
		if (r == 0)
			r = run_guest(&vm, &memory, sample, result, err);
		if (r == 0 && sample->trace[0])
			r = bench_trace_write(memory.space, &opt, sample->trace, err);
		/* A vCPU that waits in vain cannot be joined; the process is about to end. */
		if (r == 0)
			bench_vm_destroy(&vm);
	}
	if (r == 0 && memory.space)
		ept_space_destroy(memory.space);
	options_free(&opt);
	return r;
}

/* --- the process ---------------------------------------------------------------------------- */

/* bench-sample CASE ours|unlogged|plain FD SWAP_FD LIMIT CPUS GROUP TRACE */
static bool take_arguments(int argc, char **argv, struct bench_sample *sample)
{
	size_t index = argc == 9 ? strtoul(argv[1], NULL, 10) : bench_case_count;

	if (index >= bench_case_count)
		return false;
	*sample = (struct bench_sample){.c = &bench_cases[index],
					.ours = strcmp(argv[2], "plain") != 0,
					.unlogged = strcmp(argv[2], "unlogged") == 0,
					.file = (int)strtol(argv[3], NULL, 10),
					.swap = (int)strtol(argv[4], NULL, 10),
					.limit = strtoul(argv[5], NULL, 10),
					.cpus = (unsigned)strtoul(argv[6], NULL, 10),
					.group = argv[7],
					.trace = argv[8]};
	return sample->cpus >= 1 && sample->cpus <= BENCH_MAX_CPUS;
}

int command_bench_sample(int argc, char **argv, uint64_t main_ns)
{
	struct bench_result result = {0};
	struct foal_error err = {0};
	struct bench_sample sample;

	(void)main_ns;
	if (!take_arguments(argc, argv, &sample)) {
		error_set(&err, FOAL_EXIT_USAGE, -EINVAL, "bench-sample: foal bench starts this");
		error_print(&err);
		return err.status;
	}
	if (measure(&sample, &result, &err)) {
		result.status = err.status ? err.status : FOAL_EXIT_INTERNAL;
		memcpy(result.why, err.text, sizeof(result.why));
	}
	bool written = write(STDOUT_FILENO, &result, sizeof(result)) == sizeof(result);
	return written ? 0 : FOAL_EXIT_INTERNAL;
}

static void not_measured(struct bench_result *result, int status, const char *why)
{
	*result = (struct bench_result){.status = status};
	snprintf(result->why, sizeof(result->why), "%s", why);
}

void bench_sample_run(const struct bench_sample *sample, struct bench_result *result)
{
	char index[24], file[24], swap[24], limit[24], cpus[24];
	const char *side = sample->unlogged ? "unlogged" : sample->ours ? "ours" : "plain";
	char *argv[] = {"foal", "bench-sample", index, (char *)side,	      file,
			swap,	limit,		cpus,  (char *)sample->group, (char *)sample->trace,
			NULL};
	size_t got = 0;
	ssize_t n;
	int out, status;

	snprintf(index, sizeof(index), "%zu", (size_t)(sample->c - bench_cases));
	snprintf(file, sizeof(file), "%d", sample->file);
	snprintf(swap, sizeof(swap), "%d", sample->swap);
	snprintf(limit, sizeof(limit), "%zu", sample->limit);
	snprintf(cpus, sizeof(cpus), "%u", sample->cpus);
	pid_t pid = helper_self(argv, &out);
	if (pid < 0) {
		not_measured(result, FOAL_EXIT_HOST, "a process cannot be started");
		return;
	}
	while (got < sizeof(*result) &&
	       (n = read(out, (char *)result + got, sizeof(*result) - got)) > 0)
		got += (size_t)n;
	close(out);
	waitpid(pid, &status, 0);
	if (got < sizeof(*result))
		not_measured(result, FOAL_EXIT_INTERNAL, "its process ended early");
}
