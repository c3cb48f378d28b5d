#include "vmm/option_values.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ept/ept.h"

int option_bad(struct foal_error *err, const char *name, const char *value, const char *what)
{
	return error_set(err, FOAL_EXIT_USAGE, -EINVAL, "run: --%s %s: %s", name, value, what);
}

int option_file(const char *name, const char *value, const char **out, struct foal_error *err)
{
	if (!value[0])
		return option_bad(err, name, value, "give a file");
	*out = value;
	return 0;
}

int option_count(const char *name, const char *value, unsigned low, unsigned high, unsigned *out,
		 struct foal_error *err)
{
	char *end;
	errno = 0;
	unsigned long v = strtoul(value, &end, 10);

	if (!isdigit((unsigned char)value[0]) || *end || errno || v < low || v > high)
		return error_set(err, FOAL_EXIT_USAGE, -EINVAL,
				 "run: --%s %s: give a whole number from %u to %u", name, value,
				 low, high);
	*out = (unsigned)v;
	return 0;
}

/* A size always has a unit: "256" would mean bytes to some and MiB to others. */
int option_size(const char *name, const char *value, uint64_t *out, struct foal_error *err)
{
	static const char units[] = "KMGT";
	char *end;
	errno = 0;
	unsigned long long v = strtoull(value, &end, 10);
	const char *unit = *end ? strchr(units, toupper((unsigned char)*end)) : NULL;

	if (!isdigit((unsigned char)value[0]) || errno || !unit || end[1])
		return option_bad(err, name, value, "give a whole number and a unit, such as 256M");
	unsigned shift = 10 * (unsigned)(unit - units + 1);
	if (v == 0)
		return option_bad(err, name, value, "give more than nothing, such as 256M");
	if (v > (1ULL << EPT_GPA_BITS) >> shift)
		return option_bad(err, name, value, "more than guest-physical addresses can name");
	*out = (uint64_t)v << shift;
	if (*out % EPT_PAGE_SIZE)
		return option_bad(err, name, value, "give a multiple of 4K, the size of a page");
	return 0;
}

/* The index of @word in @words, or -1 with all of them, comma separated, in @all. */
static int find_word(const char *word, const char *const *words, char *all, size_t size)
{
	int n = 0;

	for (int i = 0; words[i]; i++) {
		if (strcmp(word, words[i]) == 0)
			return i;
		if (n < (int)size)
			n += snprintf(all + n, size - (size_t)n, "%s%s", i ? ", " : "", words[i]);
	}
	return -1;
}

int option_word(const char *name, const char *value, const char *const *words, int *out,
		struct foal_error *err)
{
	char all[128] = "";
	int i = find_word(value, words, all, sizeof(all));

	if (i < 0)
		return error_set(err, FOAL_EXIT_USAGE, -EINVAL, "run: --%s %s: one of %s", name,
				 value, all);
	*out = i;
	return 0;
}

int option_switch(const char *name, const char *value, bool *out, struct foal_error *err)
{
	static const char *const words[] = {"off", "on", NULL};
	int word = 0, r = option_word(name, value, words, &word, err);

	*out = word == 1;
	return r;
}

int option_field_word(const char *name, const char *key, const char *word, const char *const *words,
		      int *out, struct foal_error *err)
{
	char all[128] = "";
	int i = find_word(word, words, all, sizeof(all));

	if (i < 0)
		return error_set(err, FOAL_EXIT_USAGE, -EINVAL, "run: --%s: %s=%s: one of %s", name,
				 key, word, all);
	*out = i;
	return 0;
}

/* Which of @keys the text "key=word" begins with, or -1. */
static int find_key(const char *text, const char *const *keys)
{
	for (int i = 0; keys[i]; i++) {
		size_t n = strlen(keys[i]);
		if (strncmp(text, keys[i], n) == 0 && text[n] == '=')
			return i;
	}
	return -1;
}

int option_fields(const char *name, char *value, const char *const *keys, const char **words,
		  struct foal_error *err)
{
	char *comma;
	int key;

	for (int i = 0; keys[i]; i++)
		words[i] = NULL;
	while ((comma = strrchr(value, ',')) && (key = find_key(comma + 1, keys)) >= 0) {
		if (words[key])
			return error_set(err, FOAL_EXIT_USAGE, -EINVAL,
					 "run: --%s %s: %s is given twice", name, value, keys[key]);
		words[key] = comma + 1 + strlen(keys[key]) + 1;
		*comma = '\0';
	}
	return 0;
}
