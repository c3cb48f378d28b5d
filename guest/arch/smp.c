/*
 * The other CPUs. Each is started by INIT and STARTUP (Intel SDM volume 3, section 9.4) at the
 * trampoline, one after the other, and goes through head.S to secondary_main.
 */
#include "guest/include/smp.h"
#include "guest/include/apic.h"
#include "guest/include/boot.h"
#include "guest/include/mm_init.h"
#include "guest/include/page.h"
#include "guest/include/pgtable.h"
#include "guest/include/printk.h"
#include "guest/include/sched.h"
#include "guest/include/string.h"
#include "guest/include/syscall.h"
#include "guest/include/task.h"
#include "guest/include/trap.h"

#define START_LIMIT_NS 10000000000UL
#define START_AGAIN_NS 200000000UL /* a STARTUP that was lost is sent once more */

extern const char trampoline[], trampoline_end[];

/* Who is expected, settled by whoever is first: that CPU, or the one that gave it up. */
enum start { START_EXPECTED, START_CAME, START_GIVEN_UP };

static struct {
	struct cpu *cpu;
	struct task *idle;
	u64 fault_stack_top;
	enum start state;
} starting;

u64 secondary_stack; /* for head.S */

/* --- calls ----------------------------------------------------------------------------------- */

static struct {
	struct spinlock lock; /* one call at a time */
	void (*fn)(void *);
	void *arg;
	u32 pending; /* the CPUs that have not done it yet */
} call;

void smp_poll(void)
{
	u32 bit = 1U << this_cpu()->id;
	u64 irq;

	if (likely(!(READ_ONCE(call.pending) & bit)))
		return;
	irq = local_irq_save();
	if (__atomic_load_n(&call.pending, __ATOMIC_ACQUIRE) & bit) {
		call.fn(call.arg);
		__atomic_fetch_and(&call.pending, ~bit, __ATOMIC_RELEASE);
	}
	local_irq_restore(irq);
}

static void send_to_all(u32 mask, unsigned vector)
{
	for (const struct cpu *cpu = cpus; mask; cpu++, mask >>= 1)
		if (mask & 1)
			apic_send_ipi(cpu->apic_id, vector);
}

void smp_call_function_many(u32 mask, void (*fn)(void *arg), void *arg)
{
	if (!mask)
		return;
	spin_lock(&call.lock);
	call.fn = fn;
	call.arg = arg;
	__atomic_store_n(&call.pending, mask, __ATOMIC_RELEASE);
	send_to_all(mask, VEC_CALL_FUNCTION);
	while (__atomic_load_n(&call.pending, __ATOMIC_ACQUIRE))
		__builtin_ia32_pause();
	spin_unlock(&call.lock);
}

void smp_send_reschedule(const struct cpu *cpu)
{
	apic_send_ipi(cpu->apic_id, VEC_RESCHEDULE);
}

void smp_send_stop(void)
{
	send_to_all(other_cpus(), VEC_STOP);
}

/* One that waits may have to do what the holder waits for. */
void spin_wait(const struct spinlock *l)
{
	while (READ_ONCE(l->locked)) {
		__builtin_ia32_pause();
		smp_poll();
	}
}

/* --- start ----------------------------------------------------------------------------------- */

static bool settle(enum start how)
{
	enum start expected = START_EXPECTED;

	return __atomic_compare_exchange_n(&starting.state, &expected, how, false, __ATOMIC_ACQ_REL,
					   __ATOMIC_ACQUIRE);
}

/* From head.S, on the idle task's stack. */
void secondary_main(void)
{
	write_cr3(virt_to_phys(kernel_pgd()));
	cpu_init_secondary(starting.cpu, starting.fault_stack_top);
	apic_init_secondary();
	syscall_init_secondary();
	sched_init_secondary(starting.idle);
	if (settle(START_CAME))
		idle_loop();
	for (;;)
		__asm__ volatile("cli; hlt");
}

static bool wait_for_it(u64 ns)
{
	u64 end = ktime_ns() + ns;

	while (ktime_ns() < end) {
		if (__atomic_load_n(&starting.state, __ATOMIC_ACQUIRE) == START_CAME)
			return true;
		__builtin_ia32_pause();
	}
	return false;
}

static bool start_cpu(u32 apic_id)
{
	struct page *fault_stack = alloc_page(0);

	starting.cpu = &cpus[nr_cpus];
	starting.cpu->apic_id = apic_id;
	starting.idle = idle_create();
	if (!fault_stack || !starting.idle)
		panic("CPU %u: no memory for its stacks", apic_id);
	starting.fault_stack_top = (u64)page_kva(fault_stack) + PAGE_SIZE;
	starting.state = START_EXPECTED;
	secondary_stack = (u64)starting.idle->stack + TASK_STACK;
	apic_send_init(apic_id);
	apic_send_startup(apic_id, TRAMPOLINE >> PAGE_SHIFT);
	if (wait_for_it(START_AGAIN_NS))
		return true;
	apic_send_startup(apic_id, TRAMPOLINE >> PAGE_SHIFT);
	return wait_for_it(START_LIMIT_NS) || !settle(START_GIVEN_UP);
}

static bool trampoline_is_ram(void)
{
	for (u32 i = 0; i < boot_info.nr_ranges; i++) {
		const struct boot_range *r = &boot_info.ranges[i];

		if (r->start <= TRAMPOLINE && TRAMPOLINE - r->start < r->len)
			return true;
	}
	return false;
}

static unsigned max_cpus(void)
{
	char value[8];
	unsigned max = 0;

	if (!cmdline_get("maxcpus", value, sizeof(value)))
		return NR_CPUS;
	for (const char *p = value; *p >= '0' && *p <= '9'; p++)
		max = max * 10 + (unsigned)(*p - '0');
	return MIN(MAX(max, 1U), (unsigned)NR_CPUS);
}

void smp_init(void)
{
	unsigned max = max_cpus();

	cpus[0].apic_id = apic_id();
	if (boot_info.nr_cpus < 2 || max < 2 || !trampoline_is_ram())
		return;
	memcpy(phys_to_virt(TRAMPOLINE), trampoline, (size_t)(trampoline_end - trampoline));
	for (u32 i = 0; i < boot_info.nr_cpus && nr_cpus < max; i++) {
		if (boot_info.apic_ids[i] == cpus[0].apic_id)
			continue;
		if (!start_cpu(boot_info.apic_ids[i])) {
			printk("CPU %u does not start, nor are others tried\n",
			       boot_info.apic_ids[i]);
			break;
		}
		nr_cpus++;
	}
	pr_info("smp: %u CPUs\n", nr_cpus);
}
