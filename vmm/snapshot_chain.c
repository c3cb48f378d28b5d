/*
 * Snapshots that are differences: each manifest names the directory and the id of what lies below.
 * It has to be of the same machine and the same files, as pages and blocks of which nobody
 * says anything are theirs.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/manifest.h"
#include "vmm/snapshot_dir.h"

/* Each copy has networks and a vsock of its own, of which no page or block is. */
static bool is_end(const char *name)
{
	return name && (strcmp(name, "net") == 0 || strcmp(name, "vsock") == 0);
}

static bool same_options(const json_t *a, const json_t *b)
{
	bool same = json_is_array(a) && json_array_size(a) == json_array_size(b);

	for (size_t i = 0; same && i < json_array_size(a); i++) {
		const json_t *one = json_array_get(a, i), *other = json_array_get(b, i);
		const json_t *name = json_array_get(one, 0);

		same = is_end(json_string_value(name)) ? json_equal(name, json_array_get(other, 0))
						       : json_equal(one, other);
	}
	return same;
}

bool snapshot_dir_same_machine(const struct snapshot_dir *dir, const json_t *machine,
			       const json_t *files)
{
	const json_t *mine = snapshot_dir_get(dir, "machine");

	return same_options(json_object_get(mine, "options"),
			    json_object_get(machine, "options")) &&
	       json_equal(snapshot_dir_get(dir, "files"), files);
}

/* --- opened ---------------------------------------------------------------------------------- */

__attribute__((format(printf, 4, 5))) static int
no_parent(const struct snapshot_dir *dir, int error, struct foal_error *err, const char *fmt, ...)
{
	char what[400];
	va_list args;

	va_start(args, fmt);
	vsnprintf(what, sizeof(what), fmt, args);
	va_end(args);
	return snapshot_dir_refuse(dir, SNAPSHOT_MANIFEST, error, what, err);
}

/* @below is zeroed: whatever becomes of it, snapshot_dir_close() of @dir sees to it. */
static int open_parent(struct snapshot_dir *dir, struct snapshot_dir *below, char *path,
		       const struct run_options *opt, struct foal_error *err)
{
	const char *want =
	    json_string_value(json_object_get(snapshot_dir_get(dir, "parent"), "id"));
	struct foal_error why = {0};
	const char *is;
	int r = snapshot_dir_open(below, path, &why);

	below->depth = dir->depth + 1;
	if (r)
		return no_parent(dir, r, err, "what it is the difference to: %.300s", why.text);
	is = json_string_value(snapshot_dir_get(below, "id"));
	if (!is || !want || strcmp(is, want) != 0)
		return no_parent(dir, -EINVAL, err,
				 "it is the difference to another snapshot than is now at %.200s",
				 path);
	if (!snapshot_dir_same_machine(dir, snapshot_dir_get(below, "machine"),
				       snapshot_dir_get(below, "files")))
		return no_parent(dir, -EINVAL, err,
				 "it is the difference to %.200s, which is of another machine or "
				 "other files",
				 path);
	return snapshot_dir_parts(below, opt, err);
}

int snapshot_dir_open_below(struct snapshot_dir *dir, const struct run_options *opt,
			    struct foal_error *err)
{
	const json_t *parent = snapshot_dir_get(dir, "parent");
	const char *said = json_string_value(json_object_get(parent, "path"));
	char *path = NULL;

	if (!parent)
		return 0;
	if (!said)
		return no_parent(dir, -EINVAL, err, "it does not say where its parent is");
	if (dir->depth + 1 >= SNAPSHOT_CHAIN_MAX)
		return no_parent(dir, -ELOOP, err,
				 "%d snapshots are differences down to it, and foal reads no more",
				 SNAPSHOT_CHAIN_MAX);
	dir->below = calloc(1, sizeof(*dir->below));
	if (!dir->below || asprintf(&path, "%s%s%s", said[0] == '/' ? "" : dir->path,
				    said[0] == '/' ? "" : "/", said) < 0) {
		free(dir->below);
		dir->below = NULL;
		return no_parent(dir, -ENOMEM, err, "out of memory");
	}
	return open_parent(dir, dir->below, path, opt, err);
}

int snapshot_open(struct snapshot_dir *dir, const char *path, struct run_options *opt,
		  struct foal_error *err)
{
	struct foal_error shared = {0};
	char where[400];
	int r = snapshot_dir_open(dir, path, err);

	snprintf(where, sizeof(where), "%s/" SNAPSHOT_MANIFEST, path);
	if (r == 0)
		r = manifest_take(snapshot_dir_get(dir, "machine"), where, opt, err);
	/* No snapshot is taken of one: it would write what is the host's. */
	if (r == 0 && snapshot_possible(opt, "snapshot", &shared))
		r = error_set(
		    err, FOAL_EXIT_SNAPSHOT, -EINVAL,
		    "%s: it asks for a disk or pmem with mode=shared, which no snapshot has",
		    where);
	if (r == 0)
		r = snapshot_dir_parts(dir, opt, err);
	return r;
}

/* --- what is open ---------------------------------------------------------------------------- */

unsigned snapshot_dir_memory(const struct snapshot_dir *dir,
			     struct ept_snapshot *out[SNAPSHOT_CHAIN_MAX])
{
	unsigned n = 0;

	for (; dir && n < SNAPSHOT_CHAIN_MAX; dir = dir->below)
		out[n++] = dir->memory;
	return n;
}

bool snapshot_dir_in_chain(const struct snapshot_dir *dir, const char *path)
{
	struct stat is, st;
	bool there = stat(path, &is) == 0;

	for (; dir && there; dir = dir->below)
		if (fstat(dir->fd, &st) == 0 && st.st_dev == is.st_dev && st.st_ino == is.st_ino)
			return true;
	return false;
}

/* Where @to lies, or is to lie: its own name cut off. */
static char *place_of(const char *to)
{
	char *copy = strdup(to), *end, *real;

	if (!copy)
		return NULL;
	end = copy + strlen(copy);
	while (end > copy + 1 && end[-1] == '/')
		*--end = 0;
	end = strrchr(copy, '/');
	if (end)
		end[end == copy] = 0;
	real = realpath(end ? copy : ".", NULL);
	free(copy);
	return real;
}

json_t *snapshot_dir_as_parent(const struct snapshot_dir *dir, const char *to)
{
	char *path = realpath(dir->path, NULL), *place = place_of(to), *beside = NULL;
	const char *name = path ? strrchr(path, '/') : NULL;
	json_t *out = NULL;

	/* Side by side, they can be moved together. */
	if (name && place && strlen(place) == (size_t)(name - path) &&
	    strncmp(path, place, (size_t)(name - path)) == 0 &&
	    asprintf(&beside, "../%s", name + 1) < 0)
		beside = NULL;
	if (path)
		out = json_pack("{s:s, s:O}", "path", beside ? beside : path, "id",
				snapshot_dir_get(dir, "id"));
	free(beside);
	free(place);
	free(path);
	return out;
}
