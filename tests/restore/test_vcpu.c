/*
 * Each part of a vCPU, made different from what a new vCPU has, saved, loaded into another
 * VM and saved again: byte for byte the same, but for the clock that runs on.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "devices/state.h"
#include "tests/restore/life.h"

#define CPUS	   2
#define TSC	   0x10
#define TSC_AHEAD  (1UL << 44) /* of what a new VM counts */
#define A_MINUTE   60
#define HEADER	   24
#define RECORD	   24
#define XSAVE_BV   512 /* offsets in the area (SDM 1, 13.4) */
#define XSAVE_XMM0 160
#define MC0_MISC   0x403

static struct run_options opt;

/* As much of a VM as vCPUs need. */
static void make(struct vm *vm)
{
	const struct kvm_machine machine = {.cpus = CPUS, .mask = &opt.cpu_mask};
	struct foal_error err = {0};

	*vm = (struct vm){.opt = &opt, .vcpu_count = CPUS};
	ck_assert_msg(kvm_open(&vm->kvm, &err) == 0 && kvm_read_cpuid(&vm->kvm, &err) == 0 &&
			  kvm_create_vm(&vm->kvm, &err) == 0 &&
			  kvm_configure_vm(&vm->kvm, &machine, &err) == 0 &&
			  kvm_finish_cpuid(&vm->kvm, &machine, &err) == 0,
		      "%s", err.text);
	vm->vcpus = calloc(CPUS, sizeof(*vm->vcpus));
	for (unsigned i = 0; i < CPUS; i++) {
		vm->vcpus[i] = (struct vcpu){.vm = vm, .index = i, .stats_fd = -1};
		ck_assert_msg(
		    kvm_create_vcpu(&vm->kvm, i, &vm->vcpus[i].fd, &vm->vcpus[i].run, &err) == 0 &&
			kvm_set_cpuid(&vm->kvm, i, vm->vcpus[i].fd, &err) == 0,
		    "%s", err.text);
		memory_error_set_up(&vm->vcpus[i]);
	}
}

static void unmake(struct vm *vm)
{
	for (unsigned i = 0; i < CPUS; i++) {
		munmap(vm->vcpus[i].run, vm->kvm.run_size);
		close(vm->vcpus[i].fd);
	}
	free(vm->vcpus);
	kvm_close(&vm->kvm);
}

#define CALL(vcpu, request, arg) ck_assert_int_eq(ioctl((vcpu)->fd, request, arg), 0)

static void change_xsave(const struct vcpu *vcpu, unsigned n)
{
	uint8_t *area = calloc(1, 65536);
	struct kvm_xcrs xcrs;
	uint64_t components;

	CALL(vcpu, KVM_GET_XCRS, &xcrs);
	xcrs.xcrs[0].value = 3;
	CALL(vcpu, KVM_SET_XCRS, &xcrs);
	CALL(vcpu, KVM_GET_XSAVE, area);
	memcpy(&components, area + XSAVE_BV, 8);
	components |= 3;
	memcpy(area + XSAVE_BV, &components, 8);
	for (unsigned i = 0; i < 256; i++)
		area[XSAVE_XMM0 + i] = (uint8_t)(i + n);
	CALL(vcpu, KVM_SET_XSAVE, area);
	free(area);
}

static void change_events(const struct vcpu *vcpu)
{
	struct kvm_mp_state mp = {KVM_MP_STATE_HALTED};
	struct kvm_vcpu_events events;

	CALL(vcpu, KVM_SET_MP_STATE, &mp);
	CALL(vcpu, KVM_GET_VCPU_EVENTS, &events);
	events.nmi.masked = 1;
	events.nmi.pending = 1;
	events.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW;
	CALL(vcpu, KVM_SET_VCPU_EVENTS, &events);
}

static void change(const struct vcpu *vcpu, unsigned n)
{
	struct kvm_debugregs debug = {.db = {0x1000 + n, 2, 3, 4}, .dr6 = 0xffff0ff0, .dr7 = 0x400};
	struct kvm_lapic_state lapic;
	struct kvm_sregs sregs;
	struct kvm_regs regs;
	uint64_t tsc;

	CALL(vcpu, KVM_GET_SREGS, &sregs);
	sregs.cr2 = 0x5000 + n;
	sregs.gdt.base = 0x6000 + n;
	CALL(vcpu, KVM_SET_SREGS, &sregs);
	CALL(vcpu, KVM_GET_REGS, &regs);
	regs.rax = 0x7000 + n;
	regs.r15 = 0x8000 + n;
	CALL(vcpu, KVM_SET_REGS, &regs);
	change_xsave(vcpu, n);
	CALL(vcpu, KVM_SET_DEBUGREGS, &debug);
	ck_assert_int_eq(vcpu_get_msr(vcpu, TSC, &tsc), 0);
	/* Without effect where a KVM in software gives the host's. */
	ck_assert_int_eq(vcpu_set_msr(vcpu, TSC, tsc + TSC_AHEAD), 0);
	CALL(vcpu, KVM_GET_LAPIC, &lapic);
	lapic.regs[0x350] = 0x77; /* vector of LINT0 */
	CALL(vcpu, KVM_SET_LAPIC, &lapic);
	if (vcpu->has_mce)
		ck_assert_int_eq(vcpu_set_msr(vcpu, MC0_MISC, 0x9000 + n), 0);
	change_events(vcpu);
}

struct saved {
	uint8_t *bytes;
	size_t len;
};

/* As much of a VM's state as is looked at here; @clock in nanoseconds. */
static struct saved save_at(struct vm *vm, uint64_t clock)
{
	struct saved saved;
	struct state s;

	state_save(&s);
	if (clock) {
		state_begin(&s, "clock", 0, 1);
		state_u64(&s, &clock);
		state_u64(&s, &clock); /* of the wall: as long ago as can be */
		state_end(&s);
	}
	for (unsigned i = 0; i < CPUS; i++)
		vcpu_state(&vm->vcpus[i], &s, VCPU_ALL, 0, NULL);
	ck_assert_msg(state_saved(&s, &saved.bytes, &saved.len) == 0, "%s", s.error);
	return saved;
}

static struct saved save(struct vm *vm)
{
	return save_at(vm, 0);
}

static void load(struct vm *vm, const struct saved *saved)
{
	struct state s;

	state_load(&s, saved->bytes, saved->len);
	for (unsigned i = 0; i < CPUS; i++)
		vcpu_state(&vm->vcpus[i], &s, VCPU_ALL, 0, NULL);
	ck_assert_msg(state_loaded(&s), "%s", s.error);
}

/* The next part at @at, and past it. */
static const uint8_t *part_at(const struct saved *saved, size_t *at, char name[17], uint32_t *len)
{
	const uint8_t *header = saved->bytes + *at;

	memcpy(name, header, 16);
	name[16] = 0;
	memcpy(len, header + 20, 4);
	/* What is in a vCPU's own record are its parts. */
	*at += RECORD + (strcmp(name, "vcpu") == 0 ? 0 : *len);
	return header + RECORD;
}

/* What is saved of a TSC (docs/formats.md). */
struct tsc {
	uint32_t khz;
	uint64_t count;
	bool has_offset;
	uint64_t offset;
};

static struct tsc tsc_of(const uint8_t *bytes)
{
	struct tsc tsc;

	memcpy(&tsc.khz, bytes, 4);
	memcpy(&tsc.count, bytes + 4, 8);
	tsc.has_offset = bytes[12];
	memcpy(&tsc.offset, bytes + 13, 8);
	return tsc;
}

/*
 * No count went back, and the way from vCPU 0's, the first, is the same. When it was saved all
 * stood still: what a vCPU had counted until then is vCPU 0's count and that way, and not its
 * own, which was read later.
 */
static void check_tsc(unsigned vcpu, const uint8_t *was_bytes, const uint8_t *is_bytes)
{
	static struct tsc was0, is0;
	struct tsc was = tsc_of(was_bytes), is = tsc_of(is_bytes);
	uint64_t least = was.count;

	if (!vcpu) {
		was0 = was;
		is0 = is;
	} else if (was.has_offset && is.has_offset) {
		ck_assert_uint_eq(is.offset - is0.offset, was.offset - was0.offset);
		least = was0.count + (was.offset - was0.offset);
	}
	ck_assert_msg(is.count >= least, "vCPU %u's TSC went %lu back", vcpu, least - is.count);
	ck_assert_uint_lt(is.count - least, (uint64_t)was.khz * 1000 * A_MINUTE);
}

static unsigned compare(const struct saved *a, const struct saved *b)
{
	size_t at = HEADER, bt = HEADER;
	unsigned parts = 0, vcpus = 0;

	while (at < a->len - 16) {
		uint32_t a_len, b_len;
		char a_name[17], b_name[17];
		const uint8_t *was = part_at(a, &at, a_name, &a_len);
		const uint8_t *is = part_at(b, &bt, b_name, &b_len);

		ck_assert_str_eq(a_name, b_name);
		ck_assert_uint_eq(a_len, b_len);
		if (strcmp(a_name, "tsc") == 0)
			check_tsc(vcpus++, was, is);
		else if (strcmp(a_name, "vcpu") != 0)
			ck_assert_msg(memcmp(was, is, a_len) == 0, "%s", a_name);
		parts++;
	}
	return parts;
}

START_TEST(every_part)
{
	struct saved first, second;
	struct vm a, b;

	if (!have_kvm())
		return;
	options_defaults(&opt);
	opt.cpus = CPUS;
	make(&a);
	for (unsigned i = 0; i < CPUS; i++)
		change(&a.vcpus[i], i);
	first = save(&a);
	make(&b);
	load(&b, &first);
	second = save(&b);
	ck_assert_uint_eq(compare(&first, &second), CPUS * (1 + 11));
	unmake(&a);
	unmake(&b);
	free(first.bytes);
	free(second.bytes);
}
END_TEST

/* Start @vcpu's timer, which interrupts nobody: it counts for minutes. */
static void count_down(const struct vcpu *vcpu)
{
	const uint32_t initial = ~0U;
	struct kvm_lapic_state lapic;

	CALL(vcpu, KVM_GET_LAPIC, &lapic);
	lapic.regs[0x3e0] = 0xa; /* divided by 128 */
	memcpy(lapic.regs + 0x380, &initial, sizeof(initial));
	memcpy(lapic.regs + 0x390, &initial, sizeof(initial)); /* all of it is left */
	CALL(vcpu, KVM_SET_LAPIC, &lapic);
}

/*
 * What a clone that waited takes again: clocks and timers are put back, the rest is left alone,
 * and so is the local APIC of a vCPU (the first, here) whose timer does not count.
 */
START_TEST(clocks_alone)
{
	const uint64_t clock = 1UL << 50;
	struct kvm_clock_data other = {.clock = 5}, now = {0};
	struct foal_error err = {0};
	struct kvm_lapic_state lapic;
	struct kvm_regs regs;
	struct saved first;
	struct vm a, b;

	if (!have_kvm())
		return;
	options_defaults(&opt);
	opt.cpus = CPUS;
	make(&a);
	for (unsigned i = 0; i < CPUS; i++)
		change(&a.vcpus[i], i);
	count_down(&a.vcpus[1]);
	first = save_at(&a, clock);
	make(&b);
	b.restore =
	    &(struct vm_restore){.state = first.bytes, .len = first.len, .clock = CLOCK_FREEZE};
	ck_assert_msg(vm_state_load_vcpus(&b, VCPU_ALL, &err) == 0, "%s", err.text);
	ck_assert_int_eq(ioctl(b.kvm.vm_fd, KVM_SET_CLOCK, &other), 0);
	for (unsigned i = 0; i < CPUS; i++) {
		CALL(&b.vcpus[i], KVM_GET_LAPIC, &lapic);
		lapic.regs[0x350] = 0x55;
		CALL(&b.vcpus[i], KVM_SET_LAPIC, &lapic);
		CALL(&b.vcpus[i], KVM_GET_REGS, &regs);
		regs.rax = 0x9999;
		CALL(&b.vcpus[i], KVM_SET_REGS, &regs);
	}
	ck_assert_msg(vm_state_load_clocks(&b, &err) == 0, "%s", err.text);
	ck_assert_int_eq(ioctl(b.kvm.vm_fd, KVM_GET_CLOCK, &now), 0);
	ck_assert_uint_ge(now.clock, clock);
	ck_assert_uint_lt(now.clock - clock, A_MINUTE * 1000000000UL);
	for (unsigned i = 0; i < CPUS; i++) {
		CALL(&b.vcpus[i], KVM_GET_LAPIC, &lapic);
		ck_assert_int_eq(lapic.regs[0x350], i ? 0x77 : 0x55);
		CALL(&b.vcpus[i], KVM_GET_REGS, &regs);
		ck_assert_uint_eq(regs.rax, 0x9999);
	}
	unmake(&a);
	unmake(&b);
	free(first.bytes);
}
END_TEST

#define TSC	     0x10
/* All of them in less than the second after which KVM takes a count for another one. */
#define TSC_WAITS_MS 200
#define TSC_TRIES    3

static uint64_t count_of(const struct vm *vm)
{
	uint64_t count;

	ck_assert_int_eq(vcpu_get_msr(&vm->vcpus[0], TSC, &count), 0);
	return count;
}

/* Some KVMs in software give a guest the host's. */
static bool takes_counts(const struct vm *vm)
{
	uint64_t far = count_of(vm) + TSC_FAR;

	ck_assert_int_eq(vcpu_set_msr(&vm->vcpus[0], TSC, far), 0);
	return count_of(vm) >= far;
}

static int load_all(struct vm *vm, struct foal_error *err)
{
	return vm_state_load_vcpus(vm, VCPU_ALL, err);
}

static int (*const loads[])(struct vm *vm, struct foal_error *err) = {vm_state_load_clocks,
								      load_all};

/* Also within a second of the last time the count goes back, and does not run on. */
START_TEST(count_goes_back)
{
	int (*load_again)(struct vm * vm, struct foal_error * err) = loads[_i];
	struct foal_error err = {0};
	struct saved first;
	bool back = false;
	struct vm a, b;

	if (!have_kvm())
		return;
	options_defaults(&opt);
	opt.cpus = CPUS;
	make(&a);
	first = save_at(&a, 1UL << 50);
	make(&b);
	b.restore =
	    &(struct vm_restore){.state = first.bytes, .len = first.len, .clock = CLOCK_FREEZE};
	ck_assert_msg(vm_state_load_vcpus(&b, VCPU_ALL, &err) == 0, "%s", err.text);
	bool can = takes_counts(&a);
	uint64_t khz = (uint64_t)ioctl(b.vcpus[0].fd, KVM_GET_TSC_KHZ, 0);
	/* One that was kept from the processor between both looks says nothing. */
	for (unsigned i = 0; can && !back && i < TSC_TRIES; i++) {
		ck_assert_msg(load_again(&b, &err) == 0, "%s", err.text);
		uint64_t begun = count_of(&b), waits = khz * TSC_WAITS_MS;
		while (count_of(&b) < begun + waits)
			;
		ck_assert_msg(load_again(&b, &err) == 0, "%s", err.text);
		back = count_of(&b) < begun + waits / 2;
	}
	ck_assert(back || !can);
	unmake(&a);
	unmake(&b);
	free(first.bytes);
	if (!can)
		printf("count_goes_back: this KVM takes no count\n");
}
END_TEST

/*
 * Of Linux 6.1's kvm_synchronize_tsc() what a count becomes, of a VM whose TSC counts nanoseconds:
 * it began when its first vCPU was made. Here no time passes while counts are written.
 */
#define SECOND 1000000000UL
struct counter {
	uint64_t ahead; /* of time */
	uint64_t last, last_at;
};

static void counter_write(struct counter *c, uint64_t count, uint64_t now)
{
	uint64_t expected = c->last + (now - c->last_at);

	if (count >= expected + SECOND || count + SECOND <= expected)
		c->ahead = count - now;
	c->last = count;
	c->last_at = now;
}

static void counter_load(struct counter *c, const struct vcpu *vcpu, uint64_t count, uint64_t now)
{
	uint64_t counts[2];
	unsigned n = vcpu_counts(vcpu, count, counts);

	for (unsigned i = 0; i < n; i++)
		counter_write(c, counts[i], now);
}

/* A guest that is younger than the VM, or older, or much older: it goes on from its own count. */
START_TEST(count_of_a_young_guest)
{
	static const uint64_t ages[] = {1000, SECOND / 1000, SECOND / 2, SECOND, 1000 * SECOND};
	const uint64_t now = SECOND * 3 / 4;
	struct vcpu vcpus[2] = {0};
	struct vm vm = {.vcpus = vcpus};

	vcpus[0].vm = vcpus[1].vm = &vm;
	for (size_t i = 0; i < sizeof(ages) / sizeof(ages[0]); i++) {
		struct counter c = {0};

		counter_load(&c, &vcpus[0], ages[i], now);
		ck_assert_uint_eq(now + c.ahead, ages[i]);
		counter_load(&c, &vcpus[1], ages[i] + 500, now); /* it was read later */
		ck_assert_uint_eq(now + c.ahead, ages[i]);
	}
}
END_TEST

Suite *vcpu_suite(void)
{
	Suite *suite = suite_create("vcpu");
	TCase *tc = tcase_create("vcpu");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, every_part);
	tcase_add_test(tc, clocks_alone);
	tcase_add_test(tc, count_of_a_young_guest);
	tcase_add_loop_test(tc, count_goes_back, 0, (int)(sizeof(loads) / sizeof(loads[0])));
	suite_add_tcase(suite, tc);
	return suite;
}
