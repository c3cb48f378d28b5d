/* The guest `nonces`, in VMs that are forked and cloned: told what to do, over their consoles. */
#ifndef TEST_KVM_TOLD_H
#define TEST_KVM_TOLD_H

#include "tests/kvm/control_rig.h"

#define TOLD_PAGES 64 /* of the pmem file */

struct told {
	const char *name;
	int control, console;
};

/* `foal run -d --name @name` of it, with @more; its process. */
pid_t start_told(const char *name, const char *const *more);
struct told tell_to(const char *name);
/* Have it do @what, which it must find well. */
void tell(const struct told *vm, const char *what);
/* What it says of its generation, 32 hexadecimal digits. */
void generation(const struct told *vm, char id[33]);
/* What its timer counts now. */
uint64_t count_now(const struct told *vm);
void hang_up(const struct told *vm);
/* Connect, tell, hang up. */
void tell_once(const char *name, const char *what);

/* `foal @args`, which must do well: its JSON. */
json_t *forks_of(const char *const *args);
/* The process of its @i-th VM. */
pid_t fork_pid(const json_t *reply, size_t i);

bool alive(pid_t pid);
void kill_and_wait(pid_t pid);

/* Names of a round's own: a process that was killed has its name for a moment longer. */
const char *in_round(const char *format, int round);

#endif
