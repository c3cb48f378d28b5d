/*
 * What stands behind an option: files, numbers, sizes, words, and fields such as
 * FILE,mode=ro. Each function returns 0, or -EINVAL with one line in @err that
 * names the option, what was given and what to give. Private to vmm/.
 */
#ifndef FOAL_VMM_OPTION_VALUES_H
#define FOAL_VMM_OPTION_VALUES_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/error.h"

/* "run: --@name @value: @what" */
int option_bad(struct foal_error *err, const char *name, const char *value, const char *what);

/* A file's name; @out is @value. */
int option_file(const char *name, const char *value, const char **out, struct foal_error *err);

/* A whole number from @low to @high. */
int option_count(const char *name, const char *value, unsigned low, unsigned high, unsigned *out,
		 struct foal_error *err);

/* A whole number with a unit, K to T: bytes, not 0, a multiple of a page. */
int option_size(const char *name, const char *value, uint64_t *out, struct foal_error *err);

/* One of @words, which ends in NULL; its index. */
int option_word(const char *name, const char *value, const char *const *words, int *out,
		struct foal_error *err);

/* on or off. */
int option_switch(const char *name, const char *value, bool *out, struct foal_error *err);

/* The same as option_word() for the @word of a field: the message shows @key=@word. */
int option_field_word(const char *name, const char *key, const char *word, const char *const *words,
		      int *out, struct foal_error *err);

/*
 * Cut the ",key=word" fields off the end of @value, which is changed: words[i]
 * points into it, or is NULL where no keys[i] was given (@keys ends in NULL).
 * From the right, and only as far as keys are known: what is left is the head,
 * and commas in a file's name belong to it. A key given twice is an error.
 */
int option_fields(const char *name, char *value, const char *const *keys, const char **words,
		  struct foal_error *err);

#endif
