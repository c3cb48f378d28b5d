/*
 * A vCPU's model specific registers: those that this host's KVM lists
 * (KVM_GET_MSR_INDEX_LIST), and the banks of machine checks, which it does not.
 */
#include <asm/kvm_para.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "devices/state.h"
#include "vmm/vm.h"
#include "vmm/vm_state.h"

#define MAX_MSRS	      1024
#define MSR_IA32_TSC	      0x10
#define MSR_IA32_TSC_DEADLINE 0x6e0
#define MSR_IA32_MC0_CTL      0x400
/* Control, status, address and miscellany of a bank (SDM 3B 16.3.2). */
#define MSRS_A_BANK	      4
/* Hyper-V's, which foal never tells a guest of; to touch them has KVM set it up. */
#define HYPERV_FIRST	      0x40000000U
#define HYPERV_LAST	      0x400001ffU

/* For messages: what a guest may have set and a host may lack. */
static const struct {
	uint32_t index;
	const char *name;
} names[] = {
    {0x3a, "IA32_FEAT_CTL"},
    {0x3b, "IA32_TSC_ADJUST"},
    {0x48, "IA32_SPEC_CTRL"},
    {0xe1, "IA32_UMWAIT_CONTROL"},
    {0x10a, "IA32_ARCH_CAPABILITIES"},
    {0x122, "IA32_TSX_CTRL"},
    {0x1a0, "IA32_MISC_ENABLE"},
    {0x1c4, "IA32_XFD"},
    {0x345, "IA32_PERF_CAPABILITIES"},
    {0x6e0, "IA32_TSC_DEADLINE"},
    {0xda0, "IA32_XSS"},
    {0xc0000080, "IA32_EFER"},
    {0xc0000103, "IA32_TSC_AUX"},
    {0xc0000104, "AMD64_TSC_RATIO"},
    {0xc0010015, "HWCR"},
    {0xc0010117, "VM_HSAVE_PA"},
    {0xc001011f, "AMD64_VIRT_SPEC_CTRL"},
    {MSR_KVM_WALL_CLOCK_NEW, "KVM_WALL_CLOCK"},
    {MSR_KVM_SYSTEM_TIME_NEW, "KVM_SYSTEM_TIME"},
    {MSR_KVM_ASYNC_PF_EN, "KVM_ASYNC_PF_EN"},
    {MSR_KVM_STEAL_TIME, "KVM_STEAL_TIME"},
    {MSR_KVM_PV_EOI_EN, "KVM_PV_EOI_EN"},
    {MSR_KVM_POLL_CONTROL, "KVM_POLL_CONTROL"},
    {MSR_KVM_ASYNC_PF_INT, "KVM_ASYNC_PF_INT"},
};

static const char *name_of(uint32_t index)
{
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (names[i].index == index)
			return names[i].name;
	return "no name is known";
}

/* --- one ------------------------------------------------------------------------------ */

struct one_msr {
	struct kvm_msrs head;
	struct kvm_msr_entry entry;
};

int vcpu_get_msr(const struct vcpu *vcpu, uint32_t index, uint64_t *value)
{
	struct one_msr msr = {.head.nmsrs = 1, .entry.index = index};
	int r = ioctl(vcpu->fd, KVM_GET_MSRS, &msr);

	*value = msr.entry.data;
	return r == 1 ? 0 : r < 0 ? -errno : -ENOENT;
}

int vcpu_set_msr(const struct vcpu *vcpu, uint32_t index, uint64_t value)
{
	struct one_msr msr = {.head.nmsrs = 1, .entry = {.index = index, .data = value}};
	int r = ioctl(vcpu->fd, KVM_SET_MSRS, &msr);

	return r == 1 ? 0 : r < 0 ? -errno : -EINVAL;
}

/* --- the TSC's count ------------------------------------------------------------------- */

unsigned vcpu_counts(const struct vcpu *vcpu, uint64_t count, uint64_t out[2])
{
	unsigned n = 0;

	if (vcpu == &vcpu->vm->vcpus[0])
		out[n++] = count + TSC_FAR;
	out[n++] = count;
	return n;
}

bool vcpu_set_count(const struct vcpu *vcpu, uint64_t count)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entries[2];
	} set = {.entries = {{.index = MSR_IA32_TSC}, {.index = MSR_IA32_TSC}}};
	uint64_t counts[2];

	set.head.nmsrs = vcpu_counts(vcpu, count, counts);
	for (unsigned i = 0; i < set.head.nmsrs; i++)
		set.entries[i].data = counts[i];
	return ioctl(vcpu->fd, KVM_SET_MSRS, &set) == (int)set.head.nmsrs;
}

/* --- all ------------------------------------------------------------------------------- */

struct msr_set {
	struct kvm_msrs head;
	struct kvm_msr_entry entries[MAX_MSRS];
};

static void add(struct msr_set *set, uint32_t index)
{
	bool elsewhere = index == MSR_IA32_TSC || index == MSR_IA32_TSC_DEADLINE;

	if (elsewhere || (index >= HYPERV_FIRST && index <= HYPERV_LAST))
		return;
	if (set->head.nmsrs < MAX_MSRS)
		set->entries[set->head.nmsrs++].index = index;
}

static int list_msrs(const struct vcpu *vcpu, struct msr_set *set)
{
	struct {
		struct kvm_msr_list head;
		uint32_t indices[MAX_MSRS];
	} *list = calloc(1, sizeof(*list));
	int r = 0;

	if (!list)
		return -ENOMEM;
	list->head.nmsrs = MAX_MSRS;
	if (ioctl(vcpu->vm->kvm.dev_fd, KVM_GET_MSR_INDEX_LIST, list))
		r = -errno;
	for (uint32_t i = 0; r == 0 && i < list->head.nmsrs; i++)
		add(set, list->indices[i]);
	for (uint32_t i = 0; vcpu->has_mce && i < MEMORY_ERROR_BANKS * MSRS_A_BANK; i++)
		add(set, MSR_IA32_MC0_CTL + i);
	free(list);
	return r;
}

/* Those that this vCPU has: KVM lists what the host's guests can have. It stops at the first other.
 */
static void read_msrs(const struct vcpu *vcpu, struct msr_set *set)
{
	uint32_t have = 0, at = 0, nr = set->head.nmsrs;
	struct msr_set *rest = calloc(1, sizeof(*rest));

	while (rest && at < nr) {
		rest->head.nmsrs = nr - at;
		memcpy(rest->entries, set->entries + at, (nr - at) * sizeof(rest->entries[0]));
		int r = ioctl(vcpu->fd, KVM_GET_MSRS, rest);
		uint32_t got = r > 0 ? (uint32_t)r : 0;
		memmove(set->entries + have, rest->entries, got * sizeof(rest->entries[0]));
		have += got;
		at += got + 1;
	}
	free(rest);
	set->head.nmsrs = have;
}

/* KVM stops at what it does not take. Where it is so already, nothing is lost. */
static bool write_one_by_one(const struct vcpu *vcpu, struct state *s, struct msr_set *set)
{
	uint32_t at = 0, nr = set->head.nmsrs;
	struct msr_set *rest = calloc(1, sizeof(*rest));

	if (!rest)
		return state_refuse(s, "out of memory");
	while (at < nr && state_ok(s)) {
		const struct kvm_msr_entry *msr;
		uint64_t now = 0;

		rest->head.nmsrs = nr - at;
		memcpy(rest->entries, set->entries + at, (nr - at) * sizeof(rest->entries[0]));
		int r = ioctl(vcpu->fd, KVM_SET_MSRS, rest);
		at += r > 0 ? (uint32_t)r : 0;
		if (at == nr)
			break;
		msr = &set->entries[at++];
		if (vcpu_get_msr(vcpu, msr->index, &now) || now != msr->data)
			state_refuse(s, "this host does not take MSR 0x%x (%s) as 0x%llx",
				     msr->index, name_of(msr->index),
				     (unsigned long long)msr->data);
	}
	free(rest);
	return state_ok(s);
}

static bool write_msrs(const struct vcpu *vcpu, struct state *s, struct msr_set *set)
{
	return ioctl(vcpu->fd, KVM_SET_MSRS, set) == (int)set->head.nmsrs ||
	       write_one_by_one(vcpu, s, set);
}

static void push(struct msr_set *set, uint32_t index, uint64_t value)
{
	if (set->head.nmsrs < MAX_MSRS)
		set->entries[set->head.nmsrs++] =
		    (struct kvm_msr_entry){.index = index, .data = value};
}

/* The one that turns asynchronous page faults on: later, by vcpu_load_async_pf(). */
static void put_off_async_pf(struct msr_set *set, struct vcpu_back *back)
{
	for (uint32_t i = 0; i < set->head.nmsrs; i++) {
		if (set->entries[i].index != MSR_KVM_ASYNC_PF_EN)
			continue;
		back->has_async_pf = true;
		back->async_pf = set->entries[i].data;
		set->entries[i] = set->entries[--set->head.nmsrs];
		return;
	}
}

bool vcpu_load_async_pf(const struct vcpu *vcpu, const struct vcpu_back *back, bool runnable)
{
	uint64_t wanted = back->async_pf, now;

	if (!back->has_async_pf)
		return true;
	if (runnable && !(wanted & KVM_ASYNC_PF_ENABLED) &&
	    vcpu_get_msr(vcpu, MSR_KVM_ASYNC_PF_EN, &now) == 0 && now == wanted)
		return true;
	return vcpu_set_msr(vcpu, MSR_KVM_ASYNC_PF_EN, wanted) == 0;
}

/* All in one call: the TSC before the deadline that counts it, and the deadline last. */
static void load_back(struct vcpu *vcpu, struct state *s, struct msr_set *set, uint64_t deadline,
		      struct vcpu_back *back)
{
	uint64_t counts[2];

	if (back->clocks)
		set->head.nmsrs = 0;
	if (!back->enters)
		put_off_async_pf(set, back);
	unsigned n = back->freeze ? vcpu_counts(vcpu, back->tsc, counts) : 0;
	for (unsigned i = 0; i < n; i++)
		push(set, MSR_IA32_TSC, counts[i]);
	push(set, MSR_IA32_TSC_DEADLINE, deadline);
	write_msrs(vcpu, s, set);
}

static void set_state(struct vcpu *vcpu, struct state *s, struct msr_set *set,
		      struct vcpu_back *back)
{
	uint64_t deadline = 0;

	state_number(s, &set->head.nmsrs, MAX_MSRS, "the number of MSRs");
	for (uint32_t i = 0; i < set->head.nmsrs; i++) {
		uint64_t value = set->entries[i].data;

		state_u32(s, &set->entries[i].index);
		state_u64(s, &value);
		set->entries[i].data = value;
		state_check(
		    s, set->entries[i].index < HYPERV_FIRST || set->entries[i].index > HYPERV_LAST,
		    "an MSR of Hyper-V");
	}
	/* The interrupt of one that has passed comes at once: everything else has to be there. */
	if (!s->loading && vcpu_get_msr(vcpu, MSR_IA32_TSC_DEADLINE, &deadline))
		deadline = 0;
	state_u64(s, &deadline);
	if (back && s->loading && state_ok(s)) {
		load_back(vcpu, s, set, deadline, back);
		return;
	}
	if (!s->loading || !state_ok(s) || !write_msrs(vcpu, s, set))
		return;
	/* Also none: one that was set since is taken back. */
	if (vcpu_set_msr(vcpu, MSR_IA32_TSC_DEADLINE, deadline) && deadline)
		state_refuse(s, "this host does not take MSR 0x%x (%s)", MSR_IA32_TSC_DEADLINE,
			     name_of(MSR_IA32_TSC_DEADLINE));
}

void vcpu_msrs_state(struct vcpu *vcpu, struct state *s, struct vcpu_back *back)
{
	struct msr_set *set = calloc(1, sizeof(*set));
	int r = set ? 0 : -ENOMEM;

	if (r == 0 && !s->loading)
		r = list_msrs(vcpu, set);
	if (r)
		state_refuse(s, "the list of MSRs: %s", strerror(-r));
	else {
		if (!s->loading)
			read_msrs(vcpu, set);
		set_state(vcpu, s, set, back);
	}
	free(set);
}
