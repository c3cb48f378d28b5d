/*
 * Clocks. The monotonic clock counts TSC cycles; the rates of TSC and APIC timer are what the
 * hypervisor says (CPUID leaf 0x40000010), else the TSC is measured against the APIC timer, which
 * hypervisors run at 1 GHz.
 */
#include "guest/abi.h"
#include "guest/include/apic.h"
#include "guest/include/cpu.h"
#include "guest/include/printk.h"
#include "guest/include/sched.h"

#define CPUID_HYPERVISOR       0x40000000U
#define CPUID_1_ECX_HYPERVISOR (1U << 31)
#define DEFAULT_TIMER_KHZ      1000000U
#define CALIBRATION_TICKS      2000000U /* 2 ms at 1 GHz */
#define CALIBRATION_POLLS      10000000U
#define NS_SHIFT	       32

u32 apic_timer_khz = DEFAULT_TIMER_KHZ;

static u64 tsc_start;
static u64 ns_per_cycle; /* fixed point, NS_SHIFT fraction bits */

static u32 tsc_khz_from_cpuid(void)
{
	struct cpuid r;

	if (!(cpuid(1).ecx & CPUID_1_ECX_HYPERVISOR) ||
	    cpuid(CPUID_HYPERVISOR).eax < FOAL_CPUID_TIMING)
		return 0;
	r = cpuid(FOAL_CPUID_TIMING);
	if (!r.eax || !r.ebx)
		return 0;
	apic_timer_khz = r.ebx;
	return r.eax;
}

static u32 tsc_khz_measured(void)
{
	u64 t0, t1;
	u32 left, ticks, polls = 0;

	apic_timer_start(0xffffffff);
	left = apic_timer_left();
	t0 = rdtsc();
	do {
		ticks = left - apic_timer_left();
		t1 = rdtsc();
		if (++polls == CALIBRATION_POLLS)
			panic("the APIC timer stands still");
	} while (ticks < CALIBRATION_TICKS);
	apic_timer_start(0);
	return (u32)((t1 - t0) * apic_timer_khz / ticks);
}

void time_init(void)
{
	u32 khz = tsc_khz_from_cpuid();
	bool told = khz;

	if (!told)
		khz = tsc_khz_measured();
	if (!khz)
		panic("the time stamp counter stands still");
	tsc_start = rdtsc();
	ns_per_cycle = (1000000UL << NS_SHIFT) / khz;
	pr_info("time: TSC %u kHz (%s), timer %u kHz\n", khz, told ? "told" : "measured",
		apic_timer_khz);
}

u64 ktime_ns(void)
{
	return (u64)((unsigned __int128)(rdtsc() - tsc_start) * ns_per_cycle >> NS_SHIFT);
}
