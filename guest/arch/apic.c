/*
 * Local APIC (Intel SDM volume 3, chapter 11) through its x2APIC registers where the CPU has them,
 * else memory-mapped; IOAPIC (Intel 82093AA data sheet).
 */
#include "guest/include/apic.h"
#include "guest/abi.h"
#include "guest/include/cpu.h"
#include "guest/include/errno.h"
#include "guest/include/io.h"
#include "guest/include/irq.h"
#include "guest/include/printk.h"
#include "guest/include/smp.h"
#include "guest/include/spinlock.h"
#include "guest/include/task.h"
#include "guest/include/trap.h"

/* Register offsets of the memory-mapped form; the x2APIC MSR is 0x800 + offset / 16. */
enum lapic_reg {
	LAPIC_ID = 0x20,
	LAPIC_TPR = 0x80,
	LAPIC_EOI = 0xb0,
	LAPIC_SVR = 0xf0,
	LAPIC_ICR = 0x300,
	LAPIC_ICR_HIGH = 0x310,
	LAPIC_LVT_TIMER = 0x320,
	LAPIC_LVT_LINT0 = 0x350,
	LAPIC_LVT_LINT1 = 0x360,
	LAPIC_TIMER_INITIAL = 0x380,
	LAPIC_TIMER_CURRENT = 0x390,
	LAPIC_TIMER_DIVIDE = 0x3e0,
};

#define MSR_X2APIC_BASE	   0x800
#define APIC_BASE_ENABLE   (1UL << 11)
#define APIC_BASE_X2APIC   (1UL << 10)
#define CPUID_1_ECX_X2APIC (1U << 21)
#define SVR_ENABLE	   0x100
#define LVT_MASKED	   0x10000
#define TIMER_DIVIDE_BY_1  0xb

#define ICR_INIT	   0x4500
#define ICR_STARTUP	   0x4600
#define ICR_FIXED	   0x4000
#define ICR_PENDING	   0x1000 /* xAPIC only */

#define IOAPIC_SELECT	   0x00
#define IOAPIC_WINDOW	   0x10
#define IOAPIC_VERSION	   1
#define IOAPIC_REDIRECTION 0x10
#define REDIRECTION_MASKED 0x10000
#define IOAPIC_MAX_PINS	   240

struct irq_action {
	void (*fn)(void *);
	void *arg;
	unsigned pin;
};

static void *lapic; /* NULL: x2APIC */
static void *ioapic;
static unsigned ioapic_pins;
static struct irq_action actions[VEC_IRQ_LAST - VEC_IRQ_FIRST + 1];
static unsigned nr_actions;

static u32 lapic_read(enum lapic_reg reg)
{
	if (!lapic)
		return (u32)rdmsr(MSR_X2APIC_BASE + reg / 16);
	return readl((char *)lapic + reg);
}

static void lapic_write(enum lapic_reg reg, u32 v)
{
	if (!lapic)
		wrmsr(MSR_X2APIC_BASE + reg / 16, v);
	else
		writel(v, (char *)lapic + reg);
}

static u32 ioapic_read(unsigned reg)
{
	writel(reg, (char *)ioapic + IOAPIC_SELECT);
	return readl((char *)ioapic + IOAPIC_WINDOW);
}

static void ioapic_write(unsigned reg, u32 v)
{
	writel(reg, (char *)ioapic + IOAPIC_SELECT);
	writel(v, (char *)ioapic + IOAPIC_WINDOW);
}

/* The CPU's own: its mode is what the boot's CPU found to work. */
static void lapic_enable(void)
{
	lapic_write(LAPIC_LVT_LINT0, LVT_MASKED);
	lapic_write(LAPIC_LVT_LINT1, LVT_MASKED);
	lapic_write(LAPIC_TPR, 0);
	lapic_write(LAPIC_SVR, SVR_ENABLE | VEC_SPURIOUS);
	lapic_write(LAPIC_TIMER_DIVIDE, TIMER_DIVIDE_BY_1);
	lapic_write(LAPIC_LVT_TIMER, VEC_TIMER);
}

static void lapic_init(void)
{
	u64 base = rdmsr(MSR_APIC_BASE) | APIC_BASE_ENABLE;

	wrmsr(MSR_APIC_BASE, base);
	/* Where CPUID cannot be masked the bit may promise what the monitor did not mean. */
	if (!(cpuid(1).ecx & CPUID_1_ECX_X2APIC) ||
	    !wrmsr_safe(MSR_APIC_BASE, base | APIC_BASE_X2APIC)) {
		lapic = ioremap(FOAL_LAPIC_BASE, 4096);
		if (!lapic)
			panic("local APIC: no mapping");
	}
	lapic_enable();
	idt_enable_vector(VEC_SPURIOUS);
	idt_enable_vector(VEC_TIMER);
	idt_enable_vector(VEC_RESCHEDULE);
	idt_enable_vector(VEC_CALL_FUNCTION);
	idt_enable_vector(VEC_STOP);
}

void apic_init_secondary(void)
{
	u64 base = rdmsr(MSR_APIC_BASE) | APIC_BASE_ENABLE;

	wrmsr(MSR_APIC_BASE, base);
	if (!lapic)
		wrmsr(MSR_APIC_BASE, base | APIC_BASE_X2APIC);
	lapic_enable();
}

u32 apic_id(void)
{
	return lapic ? lapic_read(LAPIC_ID) >> 24 : lapic_read(LAPIC_ID);
}

static void send(u32 apic_id, u32 command)
{
	u64 irq = local_irq_save();

	if (!lapic) {
		/* What was written before is seen before: this write alone orders nothing. */
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		wrmsr(MSR_X2APIC_BASE + LAPIC_ICR / 16, (u64)apic_id << 32 | command);
	} else {
		lapic_write(LAPIC_ICR_HIGH, apic_id << 24);
		lapic_write(LAPIC_ICR, command);
		while (lapic_read(LAPIC_ICR) & ICR_PENDING)
			__builtin_ia32_pause();
	}
	local_irq_restore(irq);
}

void apic_send_ipi(u32 apic_id, unsigned vector)
{
	send(apic_id, ICR_FIXED | vector);
}

void apic_send_init(u32 apic_id)
{
	send(apic_id, ICR_INIT);
}

void apic_send_startup(u32 apic_id, unsigned page)
{
	send(apic_id, ICR_STARTUP | page);
}

void apic_init(void)
{
	/* A PC's interrupt controllers, if the machine has them, stay out of it. */
	outb(0x21, 0xff);
	outb(0xa1, 0xff);
	lapic_init();
	ioapic = ioremap(FOAL_IOAPIC_BASE, 0x20);
	if (!ioapic)
		panic("IOAPIC: no mapping");
	ioapic_pins = (ioapic_read(IOAPIC_VERSION) >> 16 & 0xff) + 1;
	if (ioapic_pins > IOAPIC_MAX_PINS)
		panic("IOAPIC: none at %lx", FOAL_IOAPIC_BASE);
	pr_info("apic: %s, IOAPIC with %u pins\n", lapic ? "xAPIC" : "x2APIC", ioapic_pins);
}

int irq_request(unsigned pin, void (*fn)(void *arg), void *arg)
{
	u32 vector, dest;

	if (pin >= ioapic_pins)
		return -EINVAL;
	for (unsigned i = 0; i < nr_actions; i++)
		if (actions[i].pin == pin)
			return -EBUSY;
	if (nr_actions == ARRAY_SIZE(actions))
		return -ENOSPC;
	vector = VEC_IRQ_FIRST + nr_actions;
	actions[nr_actions++] = (struct irq_action){fn, arg, pin};
	idt_enable_vector(vector);
	dest = apic_id();
	ioapic_write(IOAPIC_REDIRECTION + 2 * pin + 1, dest << 24);
	ioapic_write(IOAPIC_REDIRECTION + 2 * pin, vector); /* fixed, edge, high, unmasked */
	return 0;
}

void irq_dispatch(unsigned vector)
{
	if (vector == VEC_SPURIOUS)
		return;
	lapic_write(LAPIC_EOI, 0);
	if (vector == VEC_TIMER) {
		sched_tick();
	} else if (vector == VEC_CALL_FUNCTION) {
		smp_poll();
	} else if (vector == VEC_STOP) {
		/* Not halted: a host may never get a processor back that does so with interrupts
		 * off. */
		for (;;)
			__builtin_ia32_pause();
	} else if (vector - VEC_IRQ_FIRST < nr_actions) {
		const struct irq_action *a = &actions[vector - VEC_IRQ_FIRST];

		a->fn(a->arg);
	}
}

void apic_timer_start(u32 count)
{
	lapic_write(LAPIC_TIMER_INITIAL, count);
}

u32 apic_timer_left(void)
{
	return lapic_read(LAPIC_TIMER_CURRENT);
}

void timer_arm(u64 ns)
{
	u64 count = MIN(ns, 1000000000UL) * apic_timer_khz / 1000000;

	lapic_write(LAPIC_TIMER_INITIAL, ns ? (u32)MIN(MAX(count, 1UL), 0xffffffffUL) : 0);
}
