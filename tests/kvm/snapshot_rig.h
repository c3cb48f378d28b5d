/* Snapshots of running VMs, for tests: taken, tried often, looked for. */
#ifndef TEST_KVM_SNAPSHOT_RIG_H
#define TEST_KVM_SNAPSHOT_RIG_H

#include "tests/kvm/control_rig.h"

/* Checks each page's count in an order of its own, for ever. */
#define MEMORY_GUEST \
	"--kernel", guest_path("working-set.elf"), "--append", "pages=2048 passes=100000000", \
	    "--memory", "64M"
#define MEMORY_GUEST_BYTES (2048UL * 4096)

/* How often something is tried, less often on an emulated host; or as the variable says. */
unsigned times(const char *variable, unsigned usual);
/* The same numbers in each run of a test, or those that @seed makes. */
unsigned random_below(unsigned n);
void random_from(unsigned seed);
/* A moment that no two rounds share. */
void some_moment(unsigned most_us);

/* `foal snapshot @name @dir`, which must do. */
void snapshot(const char *name, const char *dir);
/* Wait until @name's guest has so much memory. */
void wait_for_memory(const char *name, uint64_t bytes);
/* Wait until what @name, which is paused, faulted is counted: who was woken may rest before that.
 */
void wait_for_counts(const char *name);
bool exists(const char *path);
/* What is half written beside it. */
unsigned leftovers(const char *dir);

/* A child of @pid that is there, or 0. */
pid_t child_of(pid_t pid);
/* Entries of the process's list of descriptors. */
unsigned descriptors_of(pid_t pid);
/* Wait until there are @most: whoever asked for something hangs up a moment later. */
void descriptors_fall(pid_t pid, unsigned most);

#endif
