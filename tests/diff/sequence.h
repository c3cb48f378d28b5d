/* What the parts of sequence.c share: the arena, and how it is looked at. */
#ifndef FOAL_DIFF_SEQUENCE_H
#define FOAL_DIFF_SEQUENCE_H

#include <stdbool.h>
#include <stdint.h>

#define PAGE  4096UL
#define PAGES 96U /* of the arena */
#define ARENA ((char *)0x100000000000UL)

void catch_faults(void);
/* False: it ended in a signal. */
bool touch_read(const char *at, uint64_t *value);
bool touch_write(char *at, uint64_t value);
/* The signal that a touch of @at ended in; where, only if it is not where it has to be. */
void print_fault(const char *at);

/* One line each: a sum of all that can be read; what is mapped how, by pages of the arena. */
void look_at_all(void);
void look_at_maps(void);

static inline char *page_at(unsigned page)
{
	return ARENA + page * PAGE;
}

#endif
