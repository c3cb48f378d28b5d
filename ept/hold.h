/* The gate that faults and the space's own threads go through (hold.c). */
#ifndef FOAL_EPT_HOLD_H
#define FOAL_EPT_HOLD_H

#include "ept/ept.h"

/* FAULTS: no fault begins; what faults may need goes on. */
enum ept_held { EPT_HELD_NOT, EPT_HELD_FAULTS, EPT_HELD_ALL };

/* watch_lock is held: wait until the space is not held, or dies. The holder passes. */
void ept_hold_gate(struct ept_space *space);
/* watch_lock is held: a fault, or a portion of work, has ended. */
void ept_hold_passed(struct ept_space *space);

/* Around each portion of what a thread of the space does by itself. */
void ept_work_begin(struct ept_space *space);
void ept_work_end(struct ept_space *space);

/* Is the portion to be short? No lock is needed. */
bool ept_held(struct ept_space *space);
/* Does the calling thread hold it? */
bool ept_hold_is_mine(struct ept_space *space);

/* The space is dying: who waits at the gate goes on. */
void ept_hold_break(struct ept_space *space);

#endif
