/* What tests/diff/hostile.c gives to which call. */
#ifndef TESTS_DIFF_HOSTILE_H
#define TESTS_DIFF_HOSTILE_H

#include <stdbool.h>

/* The kinds of arguments; what each may be stands in hostile.c. */
enum {
	OUT = 'o',	 /* memory that the call writes */
	IN = 'i',	 /* memory that it reads */
	PATH = 'p',	 /* base: the path, 0 is "file" */
	FD = 'f',	 /* of a file */
	REGULAR = 'r',	 /* the same, never of a pipe: the guest's have no inode */
	DIRECTORY = 'd', /* a descriptor of one */
	AT = 'a',	 /* where paths begin */
	BYTES = 'b',	 /* how many of a buffer */
	COUNT = 'c',	 /* of things, an int or long */
	OFFSET = '@',
	FLAGS = 'x',
	SIGNAL = 's',
	PROCESS = 'P',
	MEMORY = 'm', /* an address whose page is meant */
	LENGTH = 'l', /* of memory */
	AS_IS = '-',  /* the base, always */
};

/* A base: a pointer into the kernel, that what else is wrong is seen to count first or not. */
#define BAD (-0x7777L)

struct call {
	const char *name;
	long nr;
	const char *kinds; /* a letter an argument; NULL: not tried, and why stands beside it */
	long base[6];
	bool tells; /* what it returns is the same everywhere */
	bool waits; /* with good arguments, or does harm */
};

/* Ends with one without a name. */
extern const struct call hostile_calls[];

#endif
