/* Local APIC, its timer, and the IOAPIC. */
#ifndef GUEST_APIC_H
#define GUEST_APIC_H

#include "guest/include/types.h"

/* Local APIC on, IOAPIC masked, legacy PIC (if any) masked. */
void apic_init(void);
void irq_dispatch(unsigned vector);

/* One timer interrupt after ns nanoseconds, replacing the one before; 0: none. */
void timer_arm(u64 ns);

/* The count register's current value and start, for calibration: counts down at its own rate. */
void apic_timer_start(u32 count);
u32 apic_timer_left(void);

/* Clock sources: rates of TSC and timer. */
void time_init(void);
extern u32 apic_timer_khz;

#endif
