/*
 * Machine checks: memory that the monitor cannot give (Intel SDM volume 3, sections 16.3 and 16.9).
 * What touched it gives it up; the rest goes on.
 */
#include "guest/include/counters.h"
#include "guest/include/cpu.h"
#include "guest/include/memory_failure.h"
#include "guest/include/page.h"
#include "guest/include/spinlock.h"
#include "guest/include/task.h"
#include "guest/include/trap.h"

#define CPUID_EDX_MCE	  (1U << 7)
#define CPUID_EDX_MCA	  (1U << 14)
#define MSR_MCG_CAP	  0x179
#define MSR_MCG_STATUS	  0x17a
#define MSR_MCI_STATUS(i) (0x401U + 4 * (i))
#define MSR_MCI_ADDR(i)	  (0x402U + 4 * (i))
#define MCG_CAP_BANKS	  0xffU
#define MCI_VALID	  (1UL << 63)
#define MCI_HAS_ADDR	  (1UL << 58)

void mce_init(void)
{
	const u32 wanted = CPUID_EDX_MCE | CPUID_EDX_MCA;

	if ((cpuid(1).edx & wanted) == wanted)
		write_cr4(read_cr4() | CR4_MCE);
}

/* Clears what the banks say; false: none names an address. */
static bool take_address(u64 *phys)
{
	u32 banks = rdmsr(MSR_MCG_CAP) & MCG_CAP_BANKS;
	bool found = false;

	for (u32 i = 0; i < banks; i++) {
		u64 status = rdmsr(MSR_MCI_STATUS(i));

		if (!(status & MCI_VALID))
			continue;
		if (status & MCI_HAS_ADDR) {
			*phys = rdmsr(MSR_MCI_ADDR(i)) & PAGE_MASK;
			found = true;
		}
		wrmsr(MSR_MCI_STATUS(i), 0);
	}
	wrmsr(MSR_MCG_STATUS, 0); /* the next one may come */
	return found;
}

void exc_machine_check(struct regs *regs)
{
	u64 phys = 0;

	if (!take_address(&phys))
		oops("machine check", regs, 0);
	fault_counters.machine_checks++;
	if (user_mode(regs)) {
		local_irq_enable();
		memory_failure(phys);
		local_irq_disable();
	} else if (fixup_exception(regs)) {
		/* The system call fails; whoever maps the page finds out when he touches it. */
		fault_counters.fixups++;
		current->memory_lost = true;
	} else {
		oops("memory error in the kernel's memory", regs, (u64)phys_to_virt(phys));
	}
}
