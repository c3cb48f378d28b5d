/* Numbers that no copy of this VM draws, too: see kernel/random.c. */
#ifndef GUEST_RANDOM_H
#define GUEST_RANDOM_H

#include "guest/include/types.h"

/* Before the first number; process context, once. */
void random_init(void);
u64 random_u64(void);

#endif
