/* Starting programs: execve(2). */
#ifndef GUEST_EXEC_H
#define GUEST_EXEC_H

#include "guest/include/types.h"

struct inode;
struct regs;

#define SCRIPTS_MAX    5 /* interpreters that are scripts themselves, and the first, as in Linux */
#define SCRIPT_WORDS   2 /* that each puts before what it is called with */
#define EXEC_ARGV_ROOM ((size_t)SCRIPTS_MAX * SCRIPT_WORDS)

/* What a program is started with, its name at least. All strings are the kernel's. */
struct exec_args {
	const char *path;
	const char *program; /* what runs it: the path, or a script's interpreter */
	const char **argv;   /* EXEC_ARGV_ROOM free places before the first */
	unsigned argc;
	const char *const *envp;
	unsigned envc;
};

/* Replaces the current program. On success sets *regs; changes args->argv and argc. */
int do_exec(struct regs *regs, struct exec_args *args);

/* --- kernel/exec_script.c ------------------------------------------------------------------ */

#define SCRIPT_LINE 256 /* of a file decide what runs it; a longer name is cut off, as in Linux */

/* The interpreters' names and words, while the program that is meant is looked for. */
struct scripts {
	unsigned count;
	char line[SCRIPTS_MAX][SCRIPT_LINE + 1];
};

/* A file to run by its path from the working directory: it is a regular one, and executable.
 * NULL with an error. */
int exec_open(const char *path, struct inode **inode);
/* The absolute path of that program, to be given to kfree(); NULL: not known. */
char *exec_path(const char *path);
/*
 * While *inode begins with "#!": the interpreter named there goes in its place, and name and word
 * of that line before the arguments. -ELOOP: it does not end; -ENOEXEC: no name in the line.
 */
int scripts_follow(struct scripts *s, struct inode **inode, struct exec_args *args);

#endif
