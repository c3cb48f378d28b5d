/* Local APIC, its timer, and the IOAPIC. */
#ifndef GUEST_APIC_H
#define GUEST_APIC_H

#include "guest/include/types.h"

/* Local APIC on, IOAPIC masked, legacy PIC (if any) masked. */
void apic_init(void);
/* The local APIC of a CPU that came later. */
void apic_init_secondary(void);
void irq_dispatch(unsigned vector);

/* Of the CPU that asks. */
u32 apic_id(void);
/* Interrupts, INIT and STARTUP (at that page, in real mode) for another CPU. */
void apic_send_ipi(u32 apic_id, unsigned vector);
void apic_send_init(u32 apic_id);
void apic_send_startup(u32 apic_id, unsigned page);

/* One timer interrupt after ns nanoseconds, replacing the one before; 0: none. */
void timer_arm(u64 ns);

/* The count register's current value and start, for calibration: counts down at its own rate. */
void apic_timer_start(u32 count);
u32 apic_timer_left(void);

/* Clock sources: rates of TSC and timer. */
void time_init(void);
extern u32 apic_timer_khz;

#endif
