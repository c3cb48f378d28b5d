/*
 * Touch a page of pmem whose file does not give it, and its neighbours. Says
 * "ready" and waits for a character first.
 *   page=N    which
 *   mode=r|w  how
 *   ring=0|3  from where
 *   mce=0|1   whether a machine check can be taken: the page must then be the one it
 *             names, each time it is touched
 *   smap=1    from ring 3, of a kernel that keeps off programs' pages; it ends there
 */
#include "tests/kvm/guests/lib/guest.h"

#define MSR_MCG_STATUS 0x17a
#define MSR_MC9_STATUS 0x425
#define MSR_MC9_ADDR   0x426
#define MC_VALID       (1UL << 63)
#define CR4_MCE	       (1UL << 6)
#define CR4_SMAP       (1UL << 21)
#define RFLAGS_AC      (1U << 18)
#define CPUID_SMAP     (1U << 20)

static uint64_t read_msr(uint32_t msr)
{
	uint32_t low, high;

	__asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
	return (uint64_t)high << 32 | low;
}

static void clear_msr(uint32_t msr)
{
	__asm__ volatile("wrmsr" : : "c"(msr), "a"(0), "d"(0));
}

static void take_machine_checks(void)
{
	__asm__ volatile("mov %%cr4, %%rax; or %0, %%rax; mov %%rax, %%cr4"
			 :
			 : "i"(CR4_MCE)
			 : "rax");
}

static void expect_named(uint64_t gpa)
{
	expect(read_msr(MSR_MC9_STATUS) & MC_VALID, GUEST_BAD_DEVICE);
	expect(read_msr(MSR_MC9_ADDR) == gpa, GUEST_BAD_VALUE);
	clear_msr(MSR_MC9_STATUS);
	clear_msr(MSR_MCG_STATUS);
}

/* Where there is such: no exception comes back from ring 3 then, whose tables are its own. */
static void use_smap(void)
{
	uint32_t eax = 7, ebx, ecx = 0, edx;

	__asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
	if (ebx & CPUID_SMAP)
		__asm__ volatile("pushf; orl %1, (%%rsp); popf; mov %%cr4, %%rax; or %0, %%rax; "
				 "mov %%rax, %%cr4"
				 :
				 : "i"(CR4_SMAP), "i"(RFLAGS_AC)
				 : "rax", "cc", "memory");
}

unsigned guest_main(const struct start_info *info)
{
	uint64_t bad = pmem_range(0).gpa + param("page", 0) * PAGE, ring = param("ring", 0);
	bool write = param_is("mode", "w");

	(void)info;
	set_up_touch();
	open_to_user(bad);
	if (param("mce", 0))
		take_machine_checks();
	out8(FOAL_PORT_COM1 + 4, 0x0b); /* DTR, RTS, OUT2: input is welcome */
	say("ready\n");
	while (heard() < 0)
		;
	if (param("smap", 0))
		use_smap();
	else
		expect(touch(bad - PAGE, write, ring) == TOUCHED, GUEST_BAD_VALUE);
	for (int i = 0; i < 2; i++) {
		expect(touch(bad, write, ring) == TOUCH_MC, GUEST_BAD_DEVICE);
		expect_named(bad);
	}
	expect(touch(bad - PAGE, write, ring) == TOUCHED, GUEST_BAD_VALUE);
	say("still here\n");
	return GUEST_OK;
}
