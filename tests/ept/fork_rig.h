/* A space in a process that forks, and how parent and child go on in turn. */
#ifndef FOAL_TESTS_EPT_FORK_RIG_H
#define FOAL_TESTS_EPT_FORK_RIG_H

#include "tests/ept/util.h"

#include <stdio.h>
#include <sys/types.h>

/* Longer than any hold of these tests lasts. */
#define HOLD_MS 60000

/* Both ways of telling the other side to go on; one byte each. */
struct pair {
	int to_child[2], to_parent[2];
	pid_t child;
};

void say(int fd);
/* False: the other side has ended. */
bool hear(int fd);

/* In a child a failed assertion cannot be told by check: it ends with a status. */
#define child_assert(x) \
	do { \
		if (!(x)) { \
			dprintf(2, "%s:%d: in the child: %s\n", __FILE__, __LINE__, #x); \
			_exit(1); \
		} \
	} while (0)

/* Returns twice, as fork() does: p.child is 0 in the child, whose space is started. */
struct pair fork_with(struct vm *vm, const struct ept_swap_file *swap);
struct pair fork_space(struct vm *vm);

/* What it holds becomes a template's, and it goes on as a clone of it would. */
void make_template(struct vm *vm);

/* The child has seen what it came for: its counts are right, and nothing failed. */
_Noreturn void child_ends(struct vm *vm);
/* The parent waits for it. */
void join(struct vm *vm, struct pair *p);

#endif
