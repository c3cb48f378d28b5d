#include "vmm/memory_limit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ept/stats.h"
#include "vmm/option_values.h"
#include "vmm/options.h"

int option_memory_limit(const char *name, const char *value, struct run_options *out,
			struct foal_error *err)
{
	int r = option_size(name, value, &out->limit.bytes, err);

	if (r == 0 && out->limit.bytes < EPT_LIMIT_FLOOR)
		r = option_bad(err, name, value, "give at least 16M");
	return r;
}

int option_swap(const char *name, const char *value, struct run_options *out,
		struct foal_error *err)
{
	static const char *const keys[] = {"size", NULL};
	const char *words[1];
	int r;

	free(out->limit.swap);
	out->limit.swap = strdup(value);
	if (!out->limit.swap)
		return error_set(err, FOAL_EXIT_HOST, -ENOMEM, "run: out of memory");
	r = option_fields(name, out->limit.swap, keys, words, err);
	if (r == 0 && words[0])
		r = option_size("swap: size", words[0], &out->limit.swap_size, err);
	if (r == 0 && !out->limit.swap[0])
		r = option_bad(err, name, value, "give a file");
	return r;
}

int memory_limit_check(struct run_options *opt, struct foal_error *err)
{
	struct memory_limit *limit = &opt->limit;

	if (limit->swap && !limit->bytes)
		return error_set(err, FOAL_EXIT_USAGE, -EINVAL,
				 "run: --swap: what is swapped is decided by --memory-limit SIZE");
	if (limit->bytes && opt->engine == EPT_ENGINE_KERNEL)
		return error_set(err, FOAL_EXIT_USAGE, -EINVAL,
				 "run: --memory-limit: with --fault-engine kernel foal sees no "
				 "page come; leave it at auto");
	if (limit->bytes && opt->huge == EPT_HUGE_ALWAYS)
		return error_set(err, FOAL_EXIT_USAGE, -EINVAL,
				 "run: --memory-limit: pages are reclaimed by 4 KiB; leave --huge "
				 "always out");
	if (!limit->swap_size)
		limit->swap_size = SWAP_DEFAULT_TIMES * opt->memory;
	return 0;
}

static int complain(const struct memory_limit *limit, int error, const char *what,
		    struct foal_error *err)
{
	return error_set(err, FOAL_EXIT_DISK, error, "--swap %s: %s", limit->swap, what);
}

static int check_empty(const struct memory_limit *limit, int fd, struct foal_error *err)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	struct stat st;

	if (fstat(fd, &st))
		return complain(limit, -errno, strerror(errno), err);
	if (!S_ISREG(st.st_mode))
		return complain(limit, -EINVAL, "not a regular file", err);
	if (fcntl(fd, F_OFD_SETLK, &lock))
		return complain(limit, -EBUSY, "in use by another VM", err);
	if (st.st_size)
		return complain(limit, -EEXIST,
				"not empty; remove it if it is left of another run, or name a "
				"file that is not there",
				err);
	return 0;
}

/* A misspelt size= is a part of the name, and no name of a new file: its bound would be lost. */
static bool misspelt(const char *name)
{
	const char *comma = strrchr(name, ',');

	return comma && strchr(comma, '=') && access(name, F_OK);
}

/* One that never has a name: nothing is left of it, whoever is killed. Not every file system can.
 */
static int open_nameless(const char *path)
{
	const char *slash = strrchr(path, '/');
	char dir[4096];
	int len = !slash ? 1 : slash == path ? 1 : (int)(slash - path);

	if (len >= (int)sizeof(dir) || access(path, F_OK) == 0 || errno != ENOENT)
		return -1;
	snprintf(dir, sizeof(dir), "%.*s", len, slash ? path : ".");
	return open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
}

static int make_file(const char *path)
{
	int fd = open_nameless(path);

	if (fd >= 0)
		return fd;
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd >= 0)
		unlink(path);
	return fd;
}

int swap_open(const struct memory_limit *limit, int *fd, struct foal_error *err)
{
	int r = 0;

	*fd = -1;
	if (misspelt(limit->swap))
		return complain(limit, -ENOENT,
				"no such file; of the words after a comma only size= is an option",
				err);
	*fd = make_file(limit->swap);
	if (*fd < 0 && errno == EEXIST) {
		*fd = open(limit->swap, O_RDWR | O_CLOEXEC | O_NONBLOCK);
		r = *fd < 0 ? 0 : check_empty(limit, *fd, err);
	}
	if (*fd < 0)
		return complain(limit, -errno, strerror(errno), err);
	/* Where it cannot be done the host's page cache has the file, too. */
	if (r == 0)
		fcntl(*fd, F_SETFL, fcntl(*fd, F_GETFL) | O_DIRECT);
	return r;
}

void memory_limit_look(const struct ept_space *space, const char *vm_name, const char *swap,
		       bool *said)
{
	struct ept_reclaim_stats stats;

	if (*said || !ept_reclaim_stats(space, &stats) || !stats.swap_error)
		return;
	*said = true;
	notice("%s: --swap %s: %s; no more is swapped, what was is still read", vm_name, swap,
	       strerror(-stats.swap_error));
}
