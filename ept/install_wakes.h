/* The wakes that a thread's installs keep (install.h), for whoever implements an installer. */
#ifndef FOAL_EPT_INSTALL_WAKES_H
#define FOAL_EPT_INSTALL_WAKES_H

#include "ept/install.h"

/* Is an install of this thread to wake nobody, and to call ept_wake_later()? */
bool ept_wakes_kept(void);

/* [@hva, @hva + @len) is in, and nobody was woken: now, unless it is kept. */
void ept_wake_later(struct ept_installer *in, void *hva, size_t len);

#endif
