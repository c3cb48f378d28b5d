/* The out-of-memory killer. */
#ifndef GUEST_OOM_H
#define GUEST_OOM_H

#include "guest/include/types.h"

struct mem_group;

/*
 * Ends a program, of the group if it is at its limit, and gives it time to go. False: there is
 * none but init. Sleeps; mm.lock not held.
 */
bool oom_kill(const struct mem_group *group);

#endif
