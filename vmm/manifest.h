/*
 * The machine that a snapshot belongs to, as JSON (docs/formats.md): options of
 * `foal run`, those that decide what the guest sees, in the words of the command
 * line. So what is read is checked by the functions that check the command line, and
 * is as hostile as anybody's. How a VM is run (engine, limits, sandbox, name, statistics)
 * is no part of it: that is for whoever restores it. Private to vmm/.
 */
#ifndef FOAL_VMM_MANIFEST_H
#define FOAL_VMM_MANIFEST_H

#include <jansson.h>

#include "vmm/options.h"

/* The machine of @opt, paths made absolute; NULL: out of memory. */
json_t *manifest_machine(const struct run_options *opt);

/* @machine (NULL: nothing happens) becomes that of a copy with other ends, @opt's: ends.h. */
void manifest_renew_ends(json_t *machine, const struct run_options *opt);

/*
 * Set @opt's machine to @machine, which has to live as long; the rest of @opt is left as it
 * is: it comes from options_defaults() and what the user said. @where, a path, is for the
 * message. FOAL_EXIT_SNAPSHOT; options_free() is to be called all the same.
 */
int manifest_take(const json_t *machine, const char *where, struct run_options *opt,
		  struct foal_error *err);

/*
 * The files that @opt's machine reads and does not keep: of each path, size and time of
 * change. What a snapshot holds is the difference to them. NULL: one is not there, or no memory.
 */
json_t *manifest_files(const struct run_options *opt, struct foal_error *err);
/* Are they as @files, hostile, says? FOAL_EXIT_SNAPSHOT. */
int manifest_check_files(const json_t *files, const char *where, const struct run_options *opt,
			 struct foal_error *err);

#endif
