/*
 * The state of one vCPU, in both directions. The parts stand in the order in which
 * they are loaded; the table at the end says why. Structures are KVM's own
 * (linux/Documentation/virt/kvm/api.rst), which are part of its ABI.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "devices/state.h"
#include "vmm/vm.h"
#include "vmm/vm_state.h"

#define MSR_IA32_TSC	     0x10
/* Registers of the local APIC, and of the first its timer's mode (SDM 3A 11.5.1, 11.5.4). */
#define LAPIC_LVT_TIMER	     0x320
#define LAPIC_TIMER_MODE     (3U << 17)
#define LAPIC_TIMER_DEADLINE (2U << 17)
#define LAPIC_INITIAL_COUNT  0x380
/* Rates this close are the same clock, measured twice: what NTP can make up for. */
#define TSC_TOLERANCE_PPM    250
#define NS_PER_MS	     1000000u

/* One vCPU being saved or loaded. */
struct part {
	struct vcpu *vcpu;
	struct state *s;
	uint64_t elapsed;
	struct kvm_mp_state mp; /* saving: what it waits for */
	struct vcpu_back *back; /* it goes back to a state of its own; NULL: all is new to KVM */
};

/* What KVM can is asked once: a reset has no time for it. */
static int capability(struct vcpu *vcpu, enum vcpu_can what)
{
	static const int caps[] = {
	    [VCPU_CAN_SREGS2] = KVM_CAP_SREGS2,
	    [VCPU_CAN_SYNC_REGS] = KVM_CAP_SYNC_REGS,
	    [VCPU_CAN_XSAVE2] = KVM_CAP_XSAVE2,
	    [VCPU_CAN_NESTED_STATE] = KVM_CAP_NESTED_STATE,
	    [VCPU_CAN_TSC_CONTROL] = KVM_CAP_TSC_CONTROL,
	};
	struct vcpu_answer *answer = &vcpu->can[what];

	if (!answer->known)
		answer->value = ioctl(vcpu->vm->kvm.vm_fd, KVM_CHECK_EXTENSION, caps[what]);
	answer->known = true;
	return answer->value;
}

static bool refused(const struct part *p, const char *what)
{
	return state_refuse(p->s, "KVM does not %s %s: %s", p->s->loading ? "take" : "give", what,
			    strerror(errno));
}

/* A structure that one ioctl gives and another takes. */
static void plain(const struct part *p, void *data, size_t len, unsigned long get,
		  unsigned long set, const char *what)
{
	struct state *s = p->s;

	if (!s->loading && ioctl(p->vcpu->fd, get, data))
		refused(p, what);
	if (state_bytes(s, data, len) && s->loading && ioctl(p->vcpu->fd, set, data))
		refused(p, what);
}

/* It is as it was, says the guest, and so stays. */
static bool kept(const struct part *p, void *data, size_t len)
{
	return p->back && p->back->same_controls && state_bytes(p->s, data, len);
}

/*
 * What KVM takes with the next KVM_RUN (KVM_CAP_SYNC_REGS), of a vCPU that is sure to enter it
 * before anybody asks for its state. @bit: KVM_SYNC_X86_*.
 */
static void *taken_on_entry(const struct part *p, uint64_t bit)
{
	struct kvm_run *run = p->vcpu->run;

	if (!p->back || !p->back->enters || !state_ok(p->s))
		return NULL;
	run->kvm_dirty_regs |= bit;
	return &run->s.regs;
}

/* --- the parts -------------------------------------------------------------------------- */

/* The same fields but for the end. */
static void one_of_two(const struct kvm_sregs2 *two, struct kvm_sregs *one)
{
	memcpy(one, two, offsetof(struct kvm_sregs, interrupt_bitmap));
	memset(one->interrupt_bitmap, 0, sizeof(one->interrupt_bitmap)); /* the events say */
}

static void load_sregs2(const struct part *p, const struct kvm_sregs2 *two)
{
	struct kvm_sync_regs *regs = NULL;

	/* The local APIC is loaded before the entry, and PDPTRs only so. */
	if (p->back && (two->apic_base != p->vcpu->run->apic_base || two->flags))
		p->back->enters = false;
	regs = taken_on_entry(p, KVM_SYNC_X86_SREGS);
	if (regs)
		one_of_two(two, &regs->sregs);
	else if (ioctl(p->vcpu->fd, KVM_SET_SREGS2, two))
		refused(p, "system registers");
}

static void sregs2_part(const struct part *p)
{
	struct kvm_sregs2 two = {0};

	if (!p->s->loading && ioctl(p->vcpu->fd, KVM_GET_SREGS2, &two))
		refused(p, "system registers");
	if (state_bytes(p->s, &two, sizeof(two)) && p->s->loading)
		load_sregs2(p, &two);
}

static void sregs_part(const struct part *p)
{
	struct kvm_sregs one = {0};
	bool new = capability(p->vcpu, VCPU_CAN_SREGS2) > 0, can = new;

	if (p->back)
		p->back->enters &=
		    new &&capability(p->vcpu, VCPU_CAN_SYNC_REGS) == KVM_SYNC_X86_VALID_FIELDS;
	state_bool(p->s, &new);
	if (p->s->loading && new && !can)
		state_refuse(p->s, "this host's KVM has no KVM_SET_SREGS2 (Linux 5.14)");
	if (new)
		sregs2_part(p);
	else
		plain(p, &one, sizeof(one), KVM_GET_SREGS, KVM_SET_SREGS, "system registers");
}

static void regs_part(const struct part *p)
{
	struct kvm_regs regs = {0};
	struct kvm_sync_regs *sync = taken_on_entry(p, KVM_SYNC_X86_REGS);

	if (sync)
		state_bytes(p->s, &sync->regs, sizeof(sync->regs));
	else
		plain(p, &regs, sizeof(regs), KVM_GET_REGS, KVM_SET_REGS, "registers");
}

static void xcrs_part(const struct part *p)
{
	struct kvm_xcrs xcrs = {0};

	if (kept(p, &xcrs, sizeof(xcrs)))
		return;
	plain(p, &xcrs, sizeof(xcrs), KVM_GET_XCRS, KVM_SET_XCRS, "extended control registers");
}

/* What the host's area holds, of which the guest's features are a part. */
static uint32_t xsave_size(struct vcpu *vcpu)
{
	int size = capability(vcpu, VCPU_CAN_XSAVE2);

	return size > (int)sizeof(struct kvm_xsave) ? (uint32_t)size : sizeof(struct kvm_xsave);
}

static void xsave_part(const struct part *p)
{
	uint32_t room = xsave_size(p->vcpu), len = room;
	unsigned long get =
	    room > sizeof(struct kvm_xsave) ? KVM_GET_XSAVE2 : (unsigned long)KVM_GET_XSAVE;
	void *area = calloc(1, room);

	if (!area) {
		state_refuse(p->s, "out of memory");
		return;
	}
	if (!p->s->loading && ioctl(p->vcpu->fd, get, area))
		refused(p, "XSAVE state");
	if (state_blob(p->s, area, &len, room, "the size of the XSAVE state") && p->s->loading &&
	    ioctl(p->vcpu->fd, KVM_SET_XSAVE, area))
		refused(p, "XSAVE state");
	free(area);
}

static void debug_part(const struct part *p)
{
	struct kvm_debugregs regs = {0};

	if (kept(p, &regs, sizeof(regs)))
		return;
	plain(p, &regs, sizeof(regs), KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS, "debug registers");
}

static bool offset_attr(const struct vcpu *vcpu, unsigned long request, uint64_t *offset)
{
	struct kvm_device_attr attr = {
	    .group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uintptr_t)offset};

	return ioctl(vcpu->fd, request, &attr) == 0;
}

/* Where the host's TSC is not stable KVM makes the offset anew at every turn: it says nothing. */
static bool steady_offset(const struct vcpu *vcpu, uint64_t *offset)
{
	uint64_t again;

	return offset_attr(vcpu, KVM_GET_DEVICE_ATTR, offset) &&
	       offset_attr(vcpu, KVM_GET_DEVICE_ATTR, &again) && again == *offset;
}

static void set_rate(const struct part *p, uint32_t khz)
{
	int own = ioctl(p->vcpu->fd, KVM_GET_TSC_KHZ, 0);
	uint64_t most = (uint64_t)khz * TSC_TOLERANCE_PPM / 1000000;

	if (own > 0 && (uint64_t)llabs((long long)khz - own) <= most)
		return;
	if (capability(p->vcpu, VCPU_CAN_TSC_CONTROL) <= 0 ||
	    ioctl(p->vcpu->fd, KVM_SET_TSC_KHZ, khz))
		state_refuse(p->s, "its TSC counts %u kHz, and this host, at %d kHz, cannot", khz,
			     own);
}

/* How far a vCPU's count is ahead of vCPU 0's, which was loaded before: as it was saved. */
static void keep_apart(const struct vcpu *vcpu, uint64_t offset)
{
	const struct vcpu *first = &vcpu->vm->vcpus[0];
	uint64_t base;

	if (vcpu == first || !steady_offset(first, &base))
		return;
	base += offset - vcpu->vm->tsc_base;
	(void)offset_attr(vcpu, KVM_SET_DEVICE_ATTR, &base);
}

/*
 * Some KVMs in software give a guest the host's TSC and ignore what is set: there it may
 * jump ahead, but never back. vCPU 0 gets its count; how far the others are ahead or behind is
 * kept to the count by their offsets, which reads at different moments would not. Without a
 * steady offset each gets its count.
 */
static void set_count(const struct part *p, uint64_t saved, uint64_t passed, bool has_offset,
		      uint64_t offset)
{
	const struct vcpu *vcpu = p->vcpu, *first = &vcpu->vm->vcpus[0];
	uint64_t now = 0;

	if (vcpu == first)
		vcpu->vm->tsc_base = offset;
	if (!vcpu_set_count(vcpu, saved + passed) || vcpu_get_msr(vcpu, MSR_IA32_TSC, &now))
		state_refuse(p->s, "KVM does not take the TSC's count");
	else if (vcpu == first && now < saved)
		state_refuse(p->s, "this host's TSC cannot be set, and is behind the guest's");
	if (has_offset)
		keep_apart(vcpu, offset);
}

static void tsc_part(const struct part *p)
{
	struct state *s = p->s;
	int khz = s->loading ? 0 : ioctl(p->vcpu->fd, KVM_GET_TSC_KHZ, 0);
	uint32_t rate = khz > 0 ? (uint32_t)khz : 0;
	uint64_t count = 0, offset = 0;
	bool has_offset = !s->loading && steady_offset(p->vcpu, &offset);

	if (!s->loading && vcpu_get_msr(p->vcpu, MSR_IA32_TSC, &count))
		state_refuse(s, "KVM does not give the TSC's count");
	state_number(s, &rate, INT32_MAX, "the TSC's rate");
	state_u64(s, &count);
	state_bool(s, &has_offset);
	state_u64(s, &offset);
	if (!s->loading || !state_ok(s))
		return;
	if (p->back) { /* with the MSRs, in one call */
		if (p->vcpu->index == 0)
			p->vcpu->vm->tsc_base = offset;
		p->back->tsc = count;
		p->back->has_offset = has_offset;
		p->back->offset = offset;
		return;
	}
	if (rate)
		set_rate(p, rate);
	set_count(p, count, (uint64_t)((unsigned __int128)p->elapsed * rate / NS_PER_MS),
		  has_offset, offset);
}

/* With a deadline the count is the TSC's, and which it is the MSRs say. */
static bool timer_counts(const struct kvm_lapic_state *lapic)
{
	uint32_t lvt, initial;

	memcpy(&lvt, lapic->regs + LAPIC_LVT_TIMER, sizeof(lvt));
	memcpy(&initial, lapic->regs + LAPIC_INITIAL_COUNT, sizeof(initial));
	return initial || (lvt & LAPIC_TIMER_MODE) == LAPIC_TIMER_DEADLINE;
}

static void lapic_part(const struct part *p)
{
	struct kvm_lapic_state lapic = {0};
	struct state *s = p->s;

	if (!s->loading && ioctl(p->vcpu->fd, KVM_GET_LAPIC, &lapic))
		refused(p, "the local APIC");
	if (!state_bytes(s, &lapic, sizeof(lapic)) || !s->loading)
		return;
	/* Of a vCPU that has not run it is as it was loaded, but for a timer that counts. */
	if (p->back && p->back->clocks && !timer_counts(&lapic))
		return;
	if (ioctl(p->vcpu->fd, KVM_SET_LAPIC, &lapic))
		refused(p, "the local APIC");
}

static void msrs_part(const struct part *p)
{
	vcpu_msrs_state(p->vcpu, p->s, p->back);
	if (p->back && p->back->freeze && p->back->has_offset && p->s->loading && state_ok(p->s))
		keep_apart(p->vcpu, p->back->offset);
}

/* Empty where KVM lets no guest run guests. */
static void nested_part(const struct part *p)
{
	int room = capability(p->vcpu, VCPU_CAN_NESTED_STATE);
	struct kvm_nested_state *nested = calloc(1, room > 0 ? (size_t)room : sizeof(*nested));
	uint32_t len = 0;

	if (!nested) {
		state_refuse(p->s, "out of memory");
		return;
	}
	if (!p->s->loading && room > 0) {
		nested->size = (uint32_t)room;
		if (ioctl(p->vcpu->fd, KVM_GET_NESTED_STATE, nested))
			refused(p, "the state of nested guests");
		len = nested->size;
	}
	state_blob(p->s, nested, &len, room > 0 ? (uint32_t)room : 0,
		   "the size of the state of nested guests");
	if (p->s->loading && state_ok(p->s) && len) {
		state_check(p->s, len >= sizeof(*nested) && nested->size == len,
			    "the state of nested guests has two sizes");
		if (state_ok(p->s) && ioctl(p->vcpu->fd, KVM_SET_NESTED_STATE, nested))
			refused(p, "the state of nested guests");
	}
	free(nested);
}

static void mp_part(const struct part *p)
{
	struct kvm_mp_state mp = p->mp;

	if (!state_bytes(p->s, &mp, sizeof(mp)) || !p->s->loading)
		return;
	if (p->back && !vcpu_load_async_pf(p->vcpu, p->back, mp.mp_state == KVM_MP_STATE_RUNNABLE))
		refused(p, "asynchronous page faults");
	/* Who enters KVM_RUN of itself waits for nothing. */
	if (p->back && p->back->enters && mp.mp_state == KVM_MP_STATE_RUNNABLE)
		return;
	if (ioctl(p->vcpu->fd, KVM_SET_MP_STATE, &mp))
		refused(p, "what it waits for");
}

static void events_part(const struct part *p)
{
	struct kvm_vcpu_events events = {0};
	struct kvm_sync_regs *sync = taken_on_entry(p, KVM_SYNC_X86_EVENTS);

	if (sync)
		state_bytes(p->s, &sync->events, sizeof(sync->events));
	else
		plain(p, &events, sizeof(events), KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS,
		      "pending events");
}

/* --- the order ------------------------------------------------------------------------------ */

/*
 * CPUID comes before all of it, with the vCPU: which bits of CR4, EFER, XCR0 and of
 * the MSRs there are depends on it.
 */
static const struct {
	const char *name;
	unsigned version;
	void (*state)(const struct part *p);
	unsigned which;
} parts[] = {
    /* The APIC's base says how the LAPIC's registers are meant. (PDPTRs are in memory, too, but
       Linux 5.14 and newer give and take them.) */
    {"sregs", 1, sregs_part, VCPU_STILL},
    /* Forgets a pending exception: before the events. */
    {"regs", 1, regs_part, VCPU_STILL},
    /* What of the XSAVE state is the guest's. */
    {"xcrs", 1, xcrs_part, VCPU_STILL},
    {"xsave", 1, xsave_part, VCPU_STILL},
    {"debug", 1, debug_part, VCPU_STILL},
    /* The deadline timer, among the MSRs, counts it. */
    {"tsc", 1, tsc_part, VCPU_CLOCKS},
    /* Takes a deadline only once its timer is in that mode. */
    {"lapic", 1, lapic_part, VCPU_CLOCKS},
    /* VMX and SVM, for nested state; the deadline last of all. */
    {"msrs", 1, msrs_part, VCPU_CLOCKS},
    /* Events may be those of a nested guest. */
    {"nested", 1, nested_part, VCPU_OTHERS},
    /* System registers can wake a vCPU that waits. */
    {"mp", 1, mp_part, VCPU_OTHERS},
    /* All others may make or forget one. */
    {"events", 1, events_part, VCPU_OTHERS},
};

void vcpu_state(struct vcpu *vcpu, struct state *s, unsigned which, uint64_t elapsed,
		struct vcpu_back *back)
{
	struct part p = {.vcpu = vcpu, .s = s, .elapsed = elapsed, .back = back};

	/* Asking has an INIT or SIPI that waits take place, which changes registers. */
	if (!s->loading && ioctl(vcpu->fd, KVM_GET_MP_STATE, &p.mp))
		refused(&p, "what it waits for");
	if (!state_begin(s, "vcpu", vcpu->index, 1))
		return;
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]) && state_ok(s); i++) {
		if (!state_begin(s, parts[i].name, 0, parts[i].version))
			return;
		if (which & parts[i].which)
			parts[i].state(&p);
		else
			state_pass(s);
		state_end(s);
	}
	state_end(s);
}
