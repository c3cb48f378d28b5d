#include "tests/kvm/guests/lib/guest.h"

#define TRAMPOLINE     0x8000UL /* start.S is assembled for it */

/* Local APIC registers (SDM 3A 11.4.1). */
#define LAPIC_SVR      (FOAL_LAPIC_BASE + 0xf0)
#define LAPIC_ICR_LOW  (FOAL_LAPIC_BASE + 0x300)
#define LAPIC_ICR_HIGH (FOAL_LAPIC_BASE + 0x310)
#define ICR_INIT       0x4500
#define ICR_STARTUP    0x4600

/* The same by x2APIC (SDM 3A 11.12), which has 32 bits for a destination. */
#define MSR_APIC_BASE  0x1b
#define APIC_X2APIC    (1U << 10)
#define MSR_X2APIC_SVR 0x80f
#define MSR_X2APIC_ICR 0x830

static bool x2apic;

extern const char ap_start[], ap_end[];

static void write_msr(uint32_t msr, uint32_t low, uint32_t high)
{
	__asm__ volatile("wrmsr" : : "c"(msr), "a"(low), "d"(high) : "memory");
}

void use_x2apic(void)
{
	uint32_t low, high;

	__asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(MSR_APIC_BASE));
	write_msr(MSR_APIC_BASE, low | APIC_X2APIC, high);
	x2apic = true;
}

void start_processor(uint32_t apic_id)
{
	volatile char *to = (volatile char *)TRAMPOLINE;

	for (const char *from = ap_start; from < ap_end; from++)
		*to++ = *from;
	if (x2apic) {
		write_msr(MSR_X2APIC_SVR, 0x1ff, 0);
		write_msr(MSR_X2APIC_ICR, ICR_INIT, apic_id);
		write_msr(MSR_X2APIC_ICR, ICR_STARTUP | TRAMPOLINE >> 12, apic_id);
		return;
	}
	poke32(LAPIC_SVR, 0x1ff); /* enabled */
	poke32(LAPIC_ICR_HIGH, apic_id << 24);
	poke32(LAPIC_ICR_LOW, ICR_INIT);
	poke32(LAPIC_ICR_HIGH, apic_id << 24);
	poke32(LAPIC_ICR_LOW, ICR_STARTUP | TRAMPOLINE >> 12);
}
