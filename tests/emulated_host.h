/* What is different on a host that is emulated itself (docs/hosts.md). */
#ifndef FOAL_TESTS_EMULATED_HOST_H
#define FOAL_TESTS_EMULATED_HOST_H

#include <stdbool.h>

/* Is this processor QEMU's own emulation (TCG)? A fault costs hundreds of microseconds there. */
bool emulated_host(void);

/* So many rounds, or a quarter of them there. */
unsigned rounds_here(unsigned usual);

#endif
