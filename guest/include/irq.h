/* Device interrupts, by IOAPIC pin. */
#ifndef GUEST_IRQ_H
#define GUEST_IRQ_H

#include "guest/include/types.h"

/*
 * Routes the IOAPIC pin, edge-triggered, to fn(arg), which runs with interrupts off, may wake
 * tasks and must not sleep. The pin is unmasked on return. One handler a pin.
 * Returns 0, -EBUSY (pin taken), -EINVAL (no such pin), -ENOSPC (no vector left).
 */
int irq_request(unsigned pin, void (*fn)(void *arg), void *arg);

#endif
