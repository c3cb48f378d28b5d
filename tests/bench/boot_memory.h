/* The host memory of a program and its children, which are one process group. */
#ifndef TEST_BENCH_BOOT_MEMORY_H
#define TEST_BENCH_BOOT_MEMORY_H

#include <stdint.h>
#include <sys/types.h>

/*
 * KiB of all processes of @group, a page shared with others in parts (Pss of
 * /proc/PID/smaps_rollup); guest memory is in it.
 */
uint64_t memory_of_group(pid_t group);

/*
 * The same at the moment that @argv enters its first KVM_RUN. It is started
 * under ptrace, stopped there, and killed after.
 */
uint64_t memory_at_first_run(char *const argv[]);

#endif
