/*
 * CPUID as a guest would read it: masks by name, and the topology by the rules
 * of the manuals (SDM 3A 9.9, APM 3 E.4), for Intel's and AMD's processors.
 */
#include <asm/kvm_para.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "tests/vmm/suites.h"
#include "vmm/cpu.h"

static struct kvm_cpuid2 *cpuid;

static struct kvm_cpuid_entry2 *leaf(uint32_t function, uint32_t index)
{
	struct kvm_cpuid_entry2 *e = cpu_leaf(cpuid, function, index);

	ck_assert_msg(e != NULL, "no leaf 0x%x.%u", function, index);
	return e;
}

static void add(uint32_t function, uint32_t index, uint32_t eax, uint32_t ebx, uint32_t ecx,
		uint32_t edx)
{
	struct kvm_cpuid_entry2 *e = cpu_leaf_make(cpuid, function, index);

	ck_assert_ptr_nonnull(e);
	e->eax = eax;
	e->ebx = ebx;
	e->ecx = ecx;
	e->edx = edx;
}

/* Every feature there is, caches shared as on no machine, one stale level each. */
static void make_host(bool amd)
{
	cpuid = calloc(1, sizeof(*cpuid) + CPU_LEAVES * sizeof(cpuid->entries[0]));
	add(0, 0, amd ? 0xd : 0x20, amd ? 0x68747541 : 0x756e6547, 0, 0);
	add(1, 0, 0, 0x05430800, ~0U, ~0U);
	add(7, 0, 2, ~0U, ~0U, ~0U);
	add(0xb, 0, 0, 0, 0, 9);
	add(0x1f, 0, 0, 0, 0, 9);
	add(0xd, 0, 0x602e7, 0, 0, 0);
	add(0xd, 1, ~0U, 0, 0, 0);
	add(0x80000001, 0, 0, 0, ~0U, ~0U);
	add(0x80000008, 0, 0, 0, 0x7777, 0);
	add(0x40000001, 0, ~0U, 0, 0, 0);
	if (amd) {
		add(0x8000001d, 0, 0x1c121, 0, 0, 0);
		add(0x8000001d, 3, 0x1c163, 0, 0, 0);
		add(0x8000001e, 0, 5, 0x105, 0x201, 0);
		add(0x80000026, 0, 1, 2, 0x300, 4);
	} else {
		add(4, 0, 0xfc1c121, 0, 0, 0);
		add(4, 3, 0xfc1c163, 0, 0, 0);
		add(4, 4, 0, 0, 0, 0);
	}
}

static void make_intel(void)
{
	make_host(false);
}

static void make_amd(void)
{
	make_host(true);
}

static void forget_host(void)
{
	free(cpuid);
}

static void mask(const char *value)
{
	struct cpu_mask m;
	struct foal_error err = {0};

	ck_assert_msg(cpu_mask_parse("cpu", value, &m, &err) == 0, "%s", err.text);
	cpu_mask_apply(cpuid, &m);
}

START_TEST(bits_have_their_names)
{
	mask("host,-fpu,-pbe,-hypervisor,-x2apic,-clflush,-avx512vl,-arch_capabilities,-nx,"
	     "-topoext,-kvmclock_stable,-kvm_steal_time");
	ck_assert_uint_eq(leaf(1, 0)->edx, ~(1U | 1U << 19 | 1U << 31));
	ck_assert_uint_eq(leaf(1, 0)->ecx, ~(1U << 21 | 1U << 31));
	ck_assert_uint_eq(leaf(7, 0)->ebx, ~(1U << 31));
	ck_assert_uint_eq(leaf(7, 0)->edx, ~(1U << 29));
	ck_assert_uint_eq(leaf(0x80000001, 0)->edx, ~(1U << 20));
	ck_assert_uint_eq(leaf(0x80000001, 0)->ecx, ~(1U << 22));
	ck_assert_uint_eq(leaf(0x40000001, 0)->eax,
			  ~(1U << KVM_FEATURE_CLOCKSOURCE_STABLE_BIT |
			    1U << KVM_FEATURE_STEAL_TIME | 1U << KVM_FEATURE_ASYNC_PF |
			    1U << KVM_FEATURE_ASYNC_PF_VMEXIT | 1U << KVM_FEATURE_ASYNC_PF_INT));
}
END_TEST

/* A guest is never told of asynchronous page faults, unless somebody insists. */
START_TEST(asynchronous_faults)
{
	struct cpu_mask m;

	cpu_mask_default(&m);
	cpu_mask_apply(cpuid, &m);
	ck_assert_uint_eq(leaf(0x40000001, 0)->eax & 1U << KVM_FEATURE_ASYNC_PF, 0);
	ck_assert_uint_ne(leaf(0x40000001, 0)->eax & 1U << KVM_FEATURE_CLOCKSOURCE2, 0);
	ck_assert_uint_ne(leaf(0x40000001, 0)->eax & 1U << KVM_FEATURE_STEAL_TIME, 0);
	leaf(0x40000001, 0)->eax = ~0U;
	mask("host,+kvm_asyncpf");
	ck_assert_uint_ne(leaf(0x40000001, 0)->eax & 1U << KVM_FEATURE_ASYNC_PF, 0);
	ck_assert_uint_eq(leaf(0x40000001, 0)->eax & 1U << KVM_FEATURE_ASYNC_PF_INT, 0);
}
END_TEST

/* What needs a feature goes with it, and its state too; what it needs comes with it. */
START_TEST(features_that_need_others)
{
	mask("host,-avx");
	ck_assert_uint_eq(leaf(7, 0)->ebx & (1U << 5 | 1U << 16 | 1U << 31), 0);
	ck_assert_uint_eq(leaf(0xd, 0)->eax, 0x60203);
	mask("host,-xsave");
	ck_assert_uint_eq(leaf(0xd, 1)->eax & 0x1f, 0);
	ck_assert_uint_eq(leaf(0xd, 0)->eax, 3);
	forget_host();
	make_intel();
	mask("baseline,+avx2");
	ck_assert_uint_eq(leaf(1, 0)->ecx >> 26 & 5, 5); /* xsave, avx */
	ck_assert_uint_ne(leaf(7, 0)->ebx & 1U << 5, 0);
	ck_assert_uint_eq(leaf(7, 0)->ebx & 1U << 16, 0);
	ck_assert_uint_eq(leaf(0xd, 0)->eax, 7);
}
END_TEST

/* x86-64-v2 is there, later levels are not, what keeps a guest safe is. */
START_TEST(baseline)
{
	mask("baseline");
	ck_assert_uint_eq(leaf(1, 0)->edx, ~0U);
	ck_assert_uint_eq(leaf(1, 0)->ecx & 0x00982201, 0x00982201); /* sse3..4.2, cx16, popcnt */
	ck_assert_uint_eq(leaf(1, 0)->ecx & (1U << 26 | 1U << 28 | 1U << 12), 0);
	ck_assert_uint_eq(leaf(7, 0)->ebx, 0x00102681 | 1U << 1 | 1U << 6);
	ck_assert_uint_eq(leaf(7, 0)->edx & 1U << 26, 1U << 26); /* spec_ctrl */
	ck_assert_uint_eq(leaf(0x80000001, 0)->edx & 0x28100800, 0x28100800);
	ck_assert_uint_eq(leaf(0x80000001, 0)->edx & 0x3ff, 0x3ff); /* leaf 1's once more */
}
END_TEST

static const char *const bad_models[] = {"",	       "hosts",	  "host,",   "host,avx",
					 "host,-",     "host,--", "host,-=", "host,-avx,,",
					 "host,-avx ", "-avx"};

START_TEST(bad_model)
{
	struct cpu_mask m;
	struct foal_error err = {0};

	ck_assert_int_lt(cpu_mask_parse("cpu", bad_models[_i], &m, &err), 0);
	ck_assert_int_eq(err.status, FOAL_EXIT_USAGE);
}
END_TEST

/* vCPUs, the bits that number them, and how many ids that makes. */
static const struct {
	unsigned cpus, bits, ids;
} sizes[] = {{1, 0, 1}, {2, 1, 2}, {3, 2, 4}, {8, 3, 8}, {65, 7, 128}, {300, 9, 512}};

#define NR_SIZES (sizeof(sizes) / sizeof(sizes[0]))

static unsigned least(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

/* Leaves 1, 0xb, 0x1f, of either vendor: one thread a core, all cores in a socket. */
static void check_common(unsigned cpus, unsigned bits, unsigned ids)
{
	static const uint32_t levels[] = {0xb, 0x1f};
	unsigned last = cpus - 1;

	cpu_identify(cpuid, last);
	ck_assert_uint_eq(leaf(1, 0)->ebx >> 24, last & 0xff);
	ck_assert_uint_eq(leaf(1, 0)->ebx >> 16 & 0xff, least(ids, 255));
	ck_assert_uint_eq(leaf(1, 0)->ebx & 0xffff, 0x0800);
	ck_assert_uint_eq(leaf(1, 0)->edx >> 28 & 1, cpus > 1);
	for (unsigned i = 0; i < 2 && levels[i] <= leaf(0, 0)->eax; i++) {
		const struct kvm_cpuid_entry2 *thread = leaf(levels[i], 0);
		const struct kvm_cpuid_entry2 *core = leaf(levels[i], 1);
		ck_assert(thread->eax == 0 && thread->ebx == 1 && thread->ecx == 0x100);
		ck_assert(core->eax == bits && core->ebx == cpus && core->ecx == 0x201);
		ck_assert(thread->edx == last && core->edx == last);
		ck_assert_uint_eq(leaf(levels[i], 2)->ecx, 2); /* no further level */
		ck_assert_uint_eq(core->flags, KVM_CPUID_FLAG_SIGNIFCANT_INDEX);
	}
}

START_TEST(intel_topology)
{
	unsigned cpus = sizes[_i].cpus, ids = sizes[_i].ids;

	ck_assert_int_eq(cpu_topology(cpuid, cpus), 0);
	check_common(cpus, sizes[_i].bits, ids);
	/* Leaf 4: bits 14 to 25 ids that share the cache, 26 to 31 cores, both less one. */
	ck_assert_uint_eq(leaf(4, 0)->eax >> 14 & 0xfff, 0);
	ck_assert_uint_eq(leaf(4, 3)->eax >> 14 & 0xfff, ids - 1);
	ck_assert_uint_eq(leaf(4, 3)->eax >> 26, least(ids, 64) - 1);
	ck_assert_uint_eq(leaf(4, 3)->eax & 0x3fff, 0x0163);
	ck_assert_uint_eq(leaf(4, 4)->eax, 0);
	ck_assert_uint_eq(leaf(0x80000008, 0)->ecx, 0);
}
END_TEST

START_TEST(amd_topology)
{
	unsigned cpus = sizes[_i].cpus, ids = sizes[_i].ids;

	ck_assert_int_eq(cpu_topology(cpuid, cpus), 0);
	check_common(cpus, sizes[_i].bits, ids);
	ck_assert_uint_eq(leaf(0x8000001d, 0)->eax >> 14 & 0xfff, 0);
	ck_assert_uint_eq(leaf(0x8000001d, 3)->eax >> 14 & 0xfff, ids - 1);
	ck_assert_uint_eq(leaf(0x80000008, 0)->ecx & 0xff, least(cpus - 1, 255));
	ck_assert_uint_eq(leaf(0x80000008, 0)->ecx >> 12, sizes[_i].bits);
	ck_assert_uint_eq(leaf(0x80000001, 0)->ecx >> 1 & 1, cpus > 1);
	ck_assert_uint_eq(leaf(0x8000001e, 0)->eax, cpus - 1);
	ck_assert_uint_eq(leaf(0x8000001e, 0)->ebx, (cpus - 1) & 0xff);
	ck_assert_uint_eq(leaf(0x8000001e, 0)->ecx, 0);
	ck_assert_uint_eq(leaf(0x80000026, 0)->ebx, 0);
}
END_TEST

START_TEST(no_room)
{
	while (cpuid->nent < CPU_LEAVES)
		add(0x50000000 + cpuid->nent, 0, 0, 0, 0, 0);
	ck_assert_int_eq(cpu_topology(cpuid, 2), -E2BIG);
}
END_TEST

Suite *cpu_suite(void)
{
	Suite *suite = suite_create("cpu");
	TCase *intel = tcase_create("intel"), *amd = tcase_create("amd");

	tcase_add_checked_fixture(intel, make_intel, forget_host);
	tcase_add_test(intel, bits_have_their_names);
	tcase_add_test(intel, asynchronous_faults);
	tcase_add_test(intel, features_that_need_others);
	tcase_add_test(intel, baseline);
	tcase_add_loop_test(intel, bad_model, 0, sizeof(bad_models) / sizeof(bad_models[0]));
	tcase_add_loop_test(intel, intel_topology, 0, NR_SIZES);
	tcase_add_test(intel, no_room);
	suite_add_tcase(suite, intel);
	tcase_add_checked_fixture(amd, make_amd, forget_host);
	tcase_add_loop_test(amd, amd_topology, 0, NR_SIZES);
	suite_add_tcase(suite, amd);
	return suite;
}
