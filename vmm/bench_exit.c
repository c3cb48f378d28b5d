/* Exits of a kind: who takes them, and how many there were. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm/bench.h"
#include "vmm/bench_vm.h"
#include "vmm/kvmstats.h"

void bench_exit_job(struct bench_vm *vm, const struct bench_sample *sample,
		    struct bench_result *result)
{
	const struct bench_case *c = sample->c;

	result->touches = sample->limit && sample->limit < c->times ? sample->limit : c->times;
	*vm->job = (struct bench_job){.cpus = 1,
				      .exit = c->exit,
				      .ring0 = c->ring0,
				      .stamped = true,
				      .touches = (uint32_t)result->touches};
}

uint64_t bench_exit_sum(const struct bench_case *c, uint64_t times)
{
	return c->exit == BENCH_GUEST_FAULT ? times : 0;
}

/* --- the time --------------------------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double bench_chunk_cycles(const struct bench_vm *vm)
{
	const volatile uint64_t *stamp = (const volatile uint64_t *)(vm->low + BENCH_STAMPS_GPA);
	uint32_t chunks = vm->job->touches / BENCH_CHUNK;
	static double each[BENCH_STAMPS];

	if (!chunks || chunks > BENCH_STAMPS)
		return (double)(vm->job->cpu[0].end - vm->job->cpu[0].start) / vm->job->touches;
	for (uint32_t i = 0; i < chunks; i++)
		each[i] = (double)(stamp[i + 1] - stamp[i]) / BENCH_CHUNK;
	qsort(each, chunks, sizeof(each[0]), compare);
	return each[chunks / 2];
}

/* --- who takes them ---------------------------------------------------------------------- */

static bool leaves(const struct bench_case *c)
{
	return c->exit == BENCH_PIO || c->exit == BENCH_MMIO;
}

static bool answer(void *arg, struct kvm_run *run)
{
	struct bench_taker *taker = arg;

	if ((run->exit_reason != KVM_EXIT_IO || run->io.port != BENCH_PORT_EXIT) &&
	    (run->exit_reason != KVM_EXIT_MMIO || run->mmio.phys_addr != BENCH_MMIO_GPA))
		return false;
	taker->answered++;
	return true;
}

/* As a virtqueue's doorbell (vmm/machine.c): of any width. */
static int hang_bell(struct bench_taker *taker, const struct bench_vm *vm,
		     const struct bench_case *c, struct foal_error *err)
{
	struct kvm_ioeventfd bell = {.addr = BENCH_MMIO_GPA};

	if (c->exit == BENCH_PIO) {
		bell.addr = BENCH_PORT_EXIT;
		bell.flags = KVM_IOEVENTFD_FLAG_PIO;
	}
	taker->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	bell.fd = taker->bell;
	if (taker->bell >= 0 && ioctl(vm->kvm.vm_fd, KVM_IOEVENTFD, &bell) == 0)
		return 0;
	return error_set(err, FOAL_EXIT_HOST, -errno, "bench: an eventfd for exits: %s",
			 strerror(errno));
}

/*
 * A hypercall that the processor does not take for one is no page of the guest's to be patched: it
 * gets #UD. Before Linux 5.19 KVM patches it.
 */
static void leave_hypercalls(const struct bench_vm *vm)
{
	struct kvm_enable_cap cap = {.cap = KVM_CAP_DISABLE_QUIRKS2,
				     .args = {KVM_X86_QUIRK_FIX_HYPERCALL_INSN}};

	ioctl(vm->kvm.vm_fd, KVM_ENABLE_CAP, &cap);
}

int bench_taker_begin(struct bench_taker *taker, struct bench_vm *vm,
		      const struct bench_sample *sample, struct foal_error *err)
{
	*taker = (struct bench_taker){.bell = -1};
	if (sample->c->exit == BENCH_HYPERCALL)
		leave_hypercalls(vm);
	if (!leaves(sample->c))
		return 0;
	vm->answer = answer;
	vm->answer_arg = taker;
	return sample->ours ? 0 : hang_bell(taker, vm, sample->c, err);
}

int bench_taker_end(struct bench_taker *taker, const struct bench_sample *sample,
		    struct bench_result *result, struct foal_error *err)
{
	uint64_t rung = 0, left = taker->answered;

	if (taker->bell >= 0) {
		if (read(taker->bell, &rung, sizeof(rung)) < 0 && errno != EAGAIN)
			return error_set(err, FOAL_EXIT_HOST, -errno, "bench: an eventfd: %s",
					 strerror(errno));
		close(taker->bell);
	}
	result->answered = left + rung;
	if (!leaves(sample->c) || (sample->ours ? left : rung) == result->touches)
		return 0;
	return error_set(err, FOAL_EXIT_INTERNAL, -EIO,
			 "bench: of %llu exits %llu came to the monitor, %llu to the host kernel",
			 (unsigned long long)result->touches, (unsigned long long)left,
			 (unsigned long long)rung);
}

/* --- what KVM counts ----------------------------------------------------------------------- */

#define X(name) [BENCH_KVM_##name] = #name,
static const char *const names[BENCH_NR_KVM] = {BENCH_KVM_COUNTS(X)};
#undef X

const char *bench_kvm_name(enum bench_kvm_count count)
{
	return names[count];
}

bool bench_kvm_counts(const struct bench_vm *vm, uint64_t out[BENCH_NR_KVM])
{
	static struct kvm_stats all;

	all.count = 0;
	for (unsigned i = 0; i < vm->cpus; i++) {
		int fd = kvm_stats_open(vm->cpu[i].fd);
		int r = fd < 0 ? fd : kvm_stats_add(&all, fd);

		if (fd >= 0)
			close(fd);
		if (r)
			return false;
	}
	for (unsigned i = 0; i < BENCH_NR_KVM; i++)
		out[i] = kvm_stats_get(&all, names[i]);
	return true;
}

/* --- our cache ------------------------------------------------------------------------------- */

static int read_all(struct ept_space *space, uint64_t size)
{
	char byte;
	int r = 0;

	for (uint64_t at = 0; at < size && r == 0; at += EPT_PAGE_SIZE)
		r = ept_read(space, GPA(BENCH_GPA + at), &byte, 1, EPT_ORIGIN_LOADER);
	return r;
}

int bench_fill_cache(struct ept_object *obj, uint64_t size)
{
	const struct ept_config config = {
	    .vm_name = "bench", .engine = EPT_ENGINE_HANDLER, .vcpus = 1};
	struct ept_space *space;
	int r = ept_space_create(&config, &space);

	if (r)
		return r;
	r = ept_area_add(space, "fill", GPA(BENCH_GPA), size, obj, NULL);
	if (r == 0)
		r = ept_space_start(space);
	if (r == 0)
		r = read_all(space, size);
	ept_space_stop(space);
	ept_space_destroy(space);
	return r;
}
