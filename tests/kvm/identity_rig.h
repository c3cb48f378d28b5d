/* The guest `identity`, which says over its console what it sees of its VM's devices. */
#ifndef TEST_KVM_IDENTITY_RIG_H
#define TEST_KVM_IDENTITY_RIG_H

#include "tests/kvm/snapshot_rig.h"

#define SAID	       192
#define IDENTITY_GUEST "--kernel", guest_path("identity.elf"), "--memory", "32M", "--halt", "exit"

/* In the background, once its guest listens, which it says with @ready. */
pid_t identity_start(const char *name, const char *ready, const char *const *args);

/* The next line of a console. */
void identity_hear(int console, char said[SAID]);
/* What @name's guest says to @what: the line, or the hexadecimal number in it. */
void identity_ask(const char *name, char what, char said[SAID]);
uint64_t identity_number(const char *name, char what);
/* Until it says @value: what comes by an interrupt comes when the device's thread has run. */
void identity_wait_for(const char *name, char what, uint64_t value);

#endif
