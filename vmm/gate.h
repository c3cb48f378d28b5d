/*
 * A gate that opens when everybody who is expected has arrived, or when it is
 * broken; it never closes again. Private to vmm/.
 *
 * Whoever expects others has to be expected too, and arrives last: so a gate
 * does not open between two of them.
 */
#ifndef FOAL_VMM_GATE_H
#define FOAL_VMM_GATE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct gate {
	_Atomic int32_t missing; /* open from 0 down */
};

/* Closed until @expected (at least 1) have arrived. */
void gate_init(struct gate *gate, int32_t expected);

/* One more has to arrive. Of an open gate nobody: what is made later may fail to be. */
void gate_expect(struct gate *gate);

/* Everything done before is seen by whoever passes. */
void gate_arrive(struct gate *gate);

/* Let everybody pass, whoever is missing. Arriving still is allowed. */
void gate_break(struct gate *gate);

/* Return once it is open. */
void gate_wait(struct gate *gate);

static inline bool gate_is_open(struct gate *gate)
{
	return atomic_load(&gate->missing) <= 0;
}

#endif
