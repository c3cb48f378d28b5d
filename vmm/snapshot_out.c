#include "vmm/snapshot_out.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/snapshot_dir.h"

int snapshot_out_fail(const struct snapshot_out *out, int r, struct foal_error *err)
{
	return error_set(err, FOAL_EXIT_SNAPSHOT, r, "%s: %s; nothing of the snapshot is kept",
			 out->to, strerror(-r));
}

const char *snapshot_out_name(const char *to, size_t *len)
{
	const char *end = to + strlen(to), *name;

	while (end > to + 1 && end[-1] == '/')
		end--;
	for (name = end; name > to && name[-1] != '/'; name--)
		;
	*len = (size_t)(end - name);
	return name;
}

/* "." and ".." cannot be renamed, nor "/". */
static bool is_no_name(const char *to)
{
	size_t len;
	const char *name = snapshot_out_name(to, &len);

	return len == 0 || (len <= 2 && strspn(name, ".") >= len);
}

/* Only a snapshot may be replaced by one. */
static int look_at_target(struct snapshot_out *out, size_t len, struct foal_error *err)
{
	char path[4096];
	struct stat st;

	if (is_no_name(out->to))
		return error_set(err, FOAL_EXIT_USAGE, -EINVAL,
				 "snapshot: \"%s\": give the directory by a name of its own",
				 out->to);
	/* What it leads to would be emptied in place of what is replaced. */
	snprintf(path, sizeof(path), "%.*s", (int)len, out->to);
	if (lstat(path, &st) == 0 && S_ISLNK(st.st_mode))
		return error_set(err, FOAL_EXIT_SNAPSHOT, -ELOOP,
				 "%s: is a symbolic link; give the directory itself", out->to);
	snprintf(path, sizeof(path), "%s/" SNAPSHOT_MANIFEST, out->to);
	out->replaces = stat(out->to, &st) == 0;
	if (!out->replaces || stat(path, &st) == 0)
		return 0;
	return error_set(err, FOAL_EXIT_SNAPSHOT, -EEXIST,
			 "%s: is there already, and is no snapshot; give another name", out->to);
}

static int make_directory(struct snapshot_out *out, struct foal_error *err)
{
	size_t len = strlen(out->to);
	char *slash;

	while (len > 1 && out->to[len - 1] == '/')
		len--;
	int r = look_at_target(out, len, err);
	if (r)
		return r;
	if (asprintf(&out->path, "%.*s.tmp-XXXXXX", (int)len, out->to) < 0 ||
	    asprintf(&out->parent, "%.*s", (int)len, out->to) < 0)
		return snapshot_out_fail(out, -ENOMEM, err);
	slash = strrchr(out->parent, '/');
	if (slash)
		slash[slash == out->parent] = 0;
	else
		memcpy(out->parent, ".", 2);
	if (!mkdtemp(out->path)) {
		r = -errno;
		free(out->path);
		out->path = NULL;
		return snapshot_out_fail(out, r, err);
	}
	out->fd = open(out->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return out->fd < 0 ? snapshot_out_fail(out, -errno, err) : 0;
}

static int make_files(struct snapshot_out *out, struct foal_error *err)
{
	const char *name;

	while ((name = snapshot_part(out->count, out->layers))) {
		int fd = openat(out->fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		if (fd < 0)
			return snapshot_out_fail(out, -errno, err);
		out->files[out->count++] = fd;
	}
	return 0;
}

static void remove_directory(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	const char *name;

	if (fd < 0)
		return;

	for (unsigned i = 0; (name = snapshot_part(i, MAX_FILES)); i++)
		unlinkat(fd, name, 0);
	unlinkat(fd, SNAPSHOT_MANIFEST, 0);
	unlinkat(fd, SNAPSHOT_WORKING_SET, 0);
	close(fd);
	rmdir(path);
}

/*
 * NFS and others know no such flags. There a directory of that name that appeared meanwhile is
 * not replaced either, unless it is empty; and nothing is exchanged in one step.
 */
static int give_name(const struct snapshot_out *out, struct foal_error *err)
{
	if (renameat2(AT_FDCWD, out->path, AT_FDCWD, out->to,
		      out->replaces ? RENAME_EXCHANGE : RENAME_NOREPLACE) == 0)
		return 0;
	if (errno == EINVAL && out->replaces)
		return error_set(err, FOAL_EXIT_SNAPSHOT, -EINVAL,
				 "%s: is a snapshot already, and this file system cannot exchange "
				 "it for another; give another name",
				 out->to);
	if (errno == EINVAL && rename(out->path, out->to) == 0)
		return 0;
	return snapshot_out_fail(out, -errno, err);
}

/* After the rename it is there, whatever happens. */
int snapshot_out_commit(struct snapshot_out *out, struct foal_error *err)
{
	int parent, r = give_name(out, err);

	if (r)
		return r;
	parent = open(out->parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (parent < 0 || fsync(parent))
		r = error_set(err, FOAL_EXIT_SNAPSHOT, -errno,
			      "%s: it is written, but its name may not last: %s: %s", out->to,
			      out->parent, strerror(errno));
	if (parent >= 0)
		close(parent);
	if (r == 0 && out->replaces)
		remove_directory(out->path); /* what it replaced */
	free(out->path);
	out->path = NULL;
	return r;
}

int snapshot_out_open(struct snapshot_out *out, const char *to, unsigned layers,
		      struct foal_error *err)
{
	*out = (struct snapshot_out){.to = to, .fd = -1, .layers = layers};
	int r = make_directory(out, err);
	return r ? r : make_files(out, err);
}

void snapshot_out_close(struct snapshot_out *out)
{
	if (out->path)
		remove_directory(out->path);
	free(out->path);
	free(out->parent);
	while (out->count)
		close(out->files[--out->count]);
	if (out->fd >= 0)
		close(out->fd);
}
