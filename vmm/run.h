/* The commands of foal, each a function from its arguments to an exit status. */
#ifndef FOAL_VMM_RUN_H
#define FOAL_VMM_RUN_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

/* @main_ns is CLOCK_MONOTONIC at the start of main(). */
int command_run(int argc, char **argv, uint64_t main_ns);
int command_restore(int argc, char **argv, uint64_t main_ns);
int command_verify(int argc, char **argv, uint64_t main_ns);
int command_doctor(int argc, char **argv, uint64_t main_ns);
int command_version(int argc, char **argv, uint64_t main_ns);
int command_help(int argc, char **argv, uint64_t main_ns);

struct run_options;
struct vm_restore;

struct vm;

/*
 * Run the machine of @opt, restored from @restore or booted (NULL); frees @opt. An exit status.
 * @vm: one that vm_begin() began, from malloc(), taken over; or NULL. *@abandoned: threads still
 * run, and nothing may be taken apart.
 */
int run_machine(struct run_options *opt, const struct vm_restore *restore, struct vm *vm,
		uint64_t main_ns, bool *abandoned);

struct background;
struct foal_error;

/* Build @vm (or rebuild one that was forked), run it to its end, report, take it apart. */
int run_vm(struct vm *vm, struct background *bg, struct foal_error *err);
/* `foal snapshot merge DIR [OUT]`, from the second word on; an exit status. */
int snapshot_merge(int argc, char **argv);

void restore_help(void);
void verify_help(void);

/* Signals that end a process by default and are no crash: who has something to put in order blocks
 * them. */
sigset_t ending_signals(void);

/* The commit foal was built from, as git describe names it; made by vmm.mk. */
extern const char foal_version[];

#endif
