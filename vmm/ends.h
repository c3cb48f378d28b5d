/*
 * What a VM has on the host that cannot be shared: the links of its networks, the socket of its
 * vsock. A copy of it gets others (docs/fork.md): whoever makes one opens them as he says, and
 * passes them. Private to vmm/.
 */
#ifndef FOAL_VMM_ENDS_H
#define FOAL_VMM_ENDS_H

#include <jansson.h>
#include <stdbool.h>

#include "vmm/net.h"
#include "vmm/vsock.h"

struct run_options;

/* Descriptors: of each network one, of vsock two. */
#define ENDS_FILES_MAX (MAX_NETS + 2)

/* What was asked for, % being a number; points into argv. */
struct end_patterns {
	const char *nets[MAX_NETS];
	unsigned net_count;
	const char *vsock;
};

/* Of one VM. */
struct ends {
	struct net_option net_options[MAX_NETS];
	struct net_config nets[MAX_NETS];
	unsigned net_count;
	struct vsock_option vsock_option; /* path NULL: none */
	struct vm_vsock vsock;
};

/* Kinds alone: what has to come with each copy. */
struct end_kinds {
	unsigned nets;
	bool taps[MAX_NETS]; /* else user mode */
	bool vsock;
};

/* @pattern with @number in place of its %; false: too long. */
bool fill_in(const char *pattern, const char *number, char *out, size_t size);

/* --- who makes the copies ------------------------------------------------------------------- */

/* Can @count copies be of these? FOAL_EXIT_USAGE. */
int ends_check(const struct end_patterns *patterns, const char *command, unsigned count,
	       struct foal_error *err);
/* "nets" and "vsock" of a request. */
void ends_request(const struct end_patterns *patterns, json_t *members);
/*
 * Open them for the copy of that @number; what helpers have to say goes to @log. ends_close() is
 * to be called also on error.
 */
int ends_open(const struct end_patterns *patterns, const char *number, int log, struct ends *out,
	      struct foal_error *err);
/* Their descriptors, in the order in which they are passed; how many. */
unsigned ends_files(const struct ends *ends, int files[ENDS_FILES_MAX]);
/* What goes with them, for ends_take(); NULL: a name that is no UTF-8. */
json_t *ends_describe(const struct ends *ends);
void ends_close(struct ends *ends);

/* --- the VM that is copied ------------------------------------------------------------------- */

/* How many descriptors come. */
unsigned ends_count(const struct end_kinds *kinds);
/* Does @kinds have what the machine of @opt needs? FOAL_EXIT_CONTROL, one line. */
int ends_possible(const struct run_options *opt, const struct end_kinds *kinds,
		  struct foal_error *err);
/*
 * @described and @files are what came, hostile. The descriptors stay the caller's. NULL, or what is
 * wrong with them; nothing is to be freed then.
 */
const char *ends_take(const struct end_kinds *kinds, const char *described, const int *files,
		      struct ends *out);

/* --- foal restore ------------------------------------------------------------------------------
 */

/*
 * The machine of @opt, which came from a snapshot, gets an address and a CID of its own, unless
 * @keep, and what @patterns say in place of what it had.
 */
int ends_renew(const struct end_patterns *patterns, bool keep, struct run_options *opt,
	       struct foal_error *err);

#endif
