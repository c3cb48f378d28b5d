/*
 * A VM that lives more than once: stopped at a random moment, its state saved, and a
 * new VM made of state and memory, all in this process.
 */
#ifndef FOAL_TESTS_LIFE_H
#define FOAL_TESTS_LIFE_H

#include <check.h>

#include "vmm/vm.h"

struct life {
	struct run_options opt;
	struct vm_restore restore; /* of the VM that runs, if it was restored */
	struct vm *vm;
	int out; /* its console, a file */
	unsigned rebirths;
};

/* Whether there is a KVM that can run a guest; if not the test ends as skipped. */
bool have_kvm(void);

/* Build and start the VM of `foal run @argv...` (NULL-terminated), options of `run` alone. */
void life_begin(struct life *life, char **argv);

/*
 * Let it run for @us microseconds, then stop it, save its state, destroy it and go on
 * in a new VM. False: its run ended before.
 */
bool life_again(struct life *life, unsigned us);

/*
 * Save the VM, let it run for @us, and bring it back in place to what was saved. False: its
 * run ended before.
 */
bool life_back(struct life *life, unsigned us);

/*
 * Stop the VM for good and save its state: @len bytes at @bytes, the caller's. Then try to go on
 * with others: what is said, in @line (status FOAL_EXIT_SNAPSHOT), or "" if they were taken.
 */
void life_save(struct life *life, uint8_t **bytes, size_t *len);
void life_try(struct life *life, const uint8_t *bytes, size_t len, char line[480]);
void life_leave(struct life *life);

/* Wait for its end; its status. What it said on the console is in @text. */
int life_end(struct life *life, char *text, size_t size);

Suite *restore_suite(void);
Suite *refused_suite(void);
Suite *vcpu_suite(void);

#endif
