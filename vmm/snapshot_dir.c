#include "vmm/snapshot_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "devices/state.h"
#include "ept/snapshot.h"
#include "vmm/snapshot.h"

#define FORMAT	     1
#define MANIFEST_MAX (1u << 20)
/* Of index and layers the manifest's checksum is of the head, which has one of the rest. */
#define HEAD	     4096u
#define SUM_HEX	     33
#define NO_PARENT    "00000000000000000000000000000000"

extern const char foal_version[];

const char *snapshot_part(unsigned i, unsigned layers)
{
	static const char *const fixed[SNAPSHOT_FIXED_FILES] = {"memory", "memory.index", "state"};
	static char names[MAX_FILES][16];

	if (i < SNAPSHOT_FIXED_FILES)
		return fixed[i];
	i -= SNAPSHOT_FIXED_FILES;
	if (i >= layers || i >= MAX_FILES)
		return NULL;
	snprintf(names[i], sizeof(names[i]), "disk%u.layer", i);
	return names[i];
}

int snapshot_dir_refuse(const struct snapshot_dir *dir, const char *part, int error,
			const char *what, struct foal_error *err)
{
	return error_set(err, FOAL_EXIT_SNAPSHOT, error, "%s/%s: %s", dir->path, part, what);
}

/* --- checksums ------------------------------------------------------------------------------- */

static void hex_of(XXH128_hash_t hash, char out[SUM_HEX])
{
	snprintf(out, SUM_HEX, "%016llx%016llx", (unsigned long long)hash.high64,
		 (unsigned long long)hash.low64);
}

/* Of the first @most bytes. 0 or a negative errno. */
static int sum_file(int fd, uint64_t most, char out[SUM_HEX])
{
	XXH3_state_t *sum = XXH3_createState();
	unsigned char buf[65536];
	uint64_t at = 0;
	ssize_t n = 1;

	if (!sum)
		return -ENOMEM;
	XXH3_128bits_reset(sum);
	while (n > 0 && at < most) {
		size_t want = most - at < sizeof(buf) ? most - at : sizeof(buf);
		n = pread(fd, buf, want, (off_t)at);
		if (n > 0)
			XXH3_128bits_update(sum, buf, (size_t)n);
		at += n > 0 ? (uint64_t)n : 0;
	}
	hex_of(XXH3_128bits_digest(sum), out);
	XXH3_freeState(sum);
	return n < 0 ? -errno : 0;
}

/* Of all that the manifest says but this. */
static bool sum_manifest(const json_t *manifest, char out[SUM_HEX])
{
	json_t *rest = json_copy((json_t *)(uintptr_t)manifest);
	char *text;

	json_object_del(rest, "sum");
	text = json_dumps(rest, JSON_COMPACT | JSON_SORT_KEYS);
	json_decref(rest);
	if (!text)
		return false;
	hex_of(XXH3_128bits(text, strlen(text)), out);
	free(text);
	return true;
}

/* Whose bytes are checked as they are read has none here. */
static uint64_t summed_bytes(unsigned part)
{
	return part == 0 ? 0 : part == 2 ? STATE_MAX : HEAD;
}

/* --- the manifest is read ------------------------------------------------------------------- */

static int read_manifest(struct snapshot_dir *dir, struct foal_error *err)
{
	int fd = openat(dir->fd, SNAPSHOT_MANIFEST, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st = {0};
	size_t most = fd >= 0 && fstat(fd, &st) == 0 && st.st_size < (off_t)MANIFEST_MAX
			  ? (size_t)st.st_size + 1 /* or it has grown, and is no JSON */
			  : MANIFEST_MAX + 1;
	char *text = malloc(most);
	json_error_t error;
	ssize_t n = fd < 0 || !text ? -1 : pread(fd, text, most, 0);
	int r = n < 0 ? -errno : 0;

	if (fd < 0 && errno == ENOENT)
		r = snapshot_dir_refuse(
		    dir, SNAPSHOT_MANIFEST, -ENOENT,
		    "not there: this is no snapshot, or one that was not finished", err);
	else if (n < 0)
		r = snapshot_dir_refuse(dir, SNAPSHOT_MANIFEST, r, strerror(-r), err);
	else if (n > (ssize_t)MANIFEST_MAX)
		r = snapshot_dir_refuse(dir, SNAPSHOT_MANIFEST, -E2BIG, "longer than any", err);
	else if (!(dir->manifest = json_loadb(text, (size_t)n, JSON_REJECT_DUPLICATES, &error)) ||
		 !json_is_object(dir->manifest))
		r = snapshot_dir_refuse(dir, SNAPSHOT_MANIFEST, -EINVAL, "damaged: no JSON object",
					err);
	free(text);
	if (fd >= 0)
		close(fd);
	return r;
}

static int check_manifest(struct snapshot_dir *dir, struct foal_error *err)
{
	const json_t *format = json_object_get(dir->manifest, "format");
	const char *said = json_string_value(json_object_get(dir->manifest, "sum"));
	char what[120], sum[SUM_HEX];

	if (!json_is_integer(format))
		return snapshot_dir_refuse(dir, SNAPSHOT_MANIFEST, -EINVAL,
					   "damaged: it does not say its format", err);
	if (json_integer_value(format) != FORMAT) {
		snprintf(what, sizeof(what),
			 "format %lld is not known, this foal reads %d; restore with the foal that "
			 "wrote it",
			 (long long)json_integer_value(format), FORMAT);
		return snapshot_dir_refuse(dir, SNAPSHOT_MANIFEST, -EINVAL, what, err);
	}
	if (!sum_manifest(dir->manifest, sum))
		return snapshot_dir_refuse(dir, SNAPSHOT_MANIFEST, -ENOMEM, "out of memory", err);
	if (!said || strcmp(said, sum) != 0)
		return snapshot_dir_refuse(dir, SNAPSHOT_MANIFEST, -EBADMSG,
					   "damaged: its checksum is not that of what it says",
					   err);
	return 0;
}

void snapshot_dir_init(struct snapshot_dir *dir)
{
	*dir = (struct snapshot_dir){.fd = -1};
	for (unsigned i = 0; i < MAX_FILES; i++)
		dir->layers[i] = -1;
}

int snapshot_dir_open(struct snapshot_dir *dir, const char *path, struct foal_error *err)
{
	int r;

	snapshot_dir_init(dir);
	dir->path = path;
	dir->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir->fd < 0)
		return error_set(err, FOAL_EXIT_SNAPSHOT, -errno, "%s: %s", path, strerror(errno));
	r = read_manifest(dir, err);
	return r ? r : check_manifest(dir, err);
}

const json_t *snapshot_dir_get(const struct snapshot_dir *dir, const char *key)
{
	return json_object_get(dir->manifest, key);
}

bool snapshot_dir_holds(const struct snapshot_dir *dir, const struct stat *st)
{
	bool holds = false;

	for (; dir && !holds; dir = dir->below) {
		int fd = openat(dir->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		DIR *all = fd < 0 ? NULL : fdopendir(fd);
		const struct dirent *one;
		struct stat other;

		while (all && !holds && (one = readdir(all)))
			holds = fstatat(fd, one->d_name, &other, 0) == 0 &&
				other.st_dev == st->st_dev && other.st_ino == st->st_ino;
		if (all)
			closedir(all);
		else if (fd >= 0)
			close(fd);
	}
	return holds;
}

/* --- the parts ------------------------------------------------------------------------- */

static const json_t *said_of(const struct snapshot_dir *dir, const char *name)
{
	const json_t *parts = snapshot_dir_get(dir, "parts");
	const json_t *one;
	size_t i;

	json_array_foreach(parts, i, one)
	{
		const char *is = json_string_value(json_object_get(one, "name"));
		if (is && strcmp(is, name) == 0)
			return one;
	}
	return NULL;
}

static int check_part(const struct snapshot_dir *dir, const char *name, unsigned i, int fd,
		      struct foal_error *err)
{
	const json_t *said = said_of(dir, name);
	const char *sum = json_string_value(json_object_get(said, "sum"));
	char is[SUM_HEX];
	struct stat st;

	if (!said)
		return snapshot_dir_refuse(dir, name, -EINVAL, "the manifest does not name it",
					   err);
	if (fstat(fd, &st) || !S_ISREG(st.st_mode))
		return snapshot_dir_refuse(dir, name, -EINVAL, "not a regular file", err);
	if (st.st_size != json_integer_value(json_object_get(said, "bytes")))
		return snapshot_dir_refuse(
		    dir, name, -EBADMSG,
		    "another size than the manifest says: cut short, or of another "
		    "snapshot",
		    err);
	if (i == 0)
		return 0;
	int r = sum_file(fd, summed_bytes(i), is);
	if (r)
		return snapshot_dir_refuse(dir, name, r, strerror(-r), err);
	if (!sum || strcmp(sum, is) != 0)
		return snapshot_dir_refuse(
		    dir, name, -EBADMSG,
		    "damaged, or of another snapshot: its checksum is not the manifest's", err);
	return 0;
}

/* A descriptor, or a negative errno. */
int snapshot_dir_part(const struct snapshot_dir *dir, unsigned i, unsigned layers,
		      struct foal_error *err)
{
	const char *name = snapshot_part(i, layers);
	int fd = openat(dir->fd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return snapshot_dir_refuse(dir, name, -errno, strerror(errno), err);
	int r = check_part(dir, name, i, fd, err);
	if (r)
		close(fd);
	return r ? r : fd;
}

static int read_state(struct snapshot_dir *dir, int fd, struct foal_error *err)
{
	struct stat st;

	if (fstat(fd, &st) || st.st_size > (off_t)STATE_MAX)
		return snapshot_dir_refuse(dir, "state", -E2BIG, "longer than any", err);
	dir->state_len = (size_t)st.st_size;
	dir->state = malloc(dir->state_len + 1);
	if (!dir->state)
		return snapshot_dir_refuse(dir, "state", -ENOMEM, "out of memory", err);
	for (size_t at = 0; at < dir->state_len;) {
		ssize_t n = pread(fd, dir->state + at, dir->state_len - at, (off_t)at);
		if (n <= 0)
			return snapshot_dir_refuse(dir, "state", -EIO,
						   n ? strerror(errno) : "cut short", err);
		at += (size_t)n;
	}
	return 0;
}

static int open_memory(struct snapshot_dir *dir, const int fds[SNAPSHOT_FIXED_FILES],
		       struct foal_error *err)
{
	const char *said = json_string_value(snapshot_dir_get(dir, "id"));
	uint8_t id[16], parent[16];
	char path[400], why[360], hex[33];
	int r;

	snprintf(path, sizeof(path), "%s/memory", dir->path);
	r = ept_snapshot_open(fds[0], fds[1], path, &dir->memory, why, sizeof(why));
	if (r)
		return error_set(err, FOAL_EXIT_SNAPSHOT, r, "%s", why);
	ept_snapshot_ids(dir->memory, id, parent);
	for (size_t i = 0; i < sizeof(id); i++)
		snprintf(hex + 2 * i, 3, "%02x", id[i]);
	if (!said || strcmp(said, hex) != 0)
		return snapshot_dir_refuse(dir, "memory.index", -EINVAL,
					   "it is of another snapshot", err);
	said = json_string_value(json_object_get(snapshot_dir_get(dir, "parent"), "id"));
	for (size_t i = 0; i < sizeof(parent); i++)
		snprintf(hex + 2 * i, 3, "%02x", parent[i]);
	if (strcmp(said ? said : NO_PARENT, hex) != 0)
		return snapshot_dir_refuse(
		    dir, "memory.index", -EINVAL,
		    "it is the difference to another snapshot than the manifest says", err);
	return 0;
}

int snapshot_dir_parts(struct snapshot_dir *dir, const struct run_options *opt,
		       struct foal_error *err)
{
	unsigned layers = snapshot_layers(opt);
	int fds[SNAPSHOT_FIXED_FILES] = {-1, -1, -1}, r = 0;

	for (unsigned i = 0; i < SNAPSHOT_FIXED_FILES && r == 0; i++) {
		fds[i] = snapshot_dir_part(dir, i, layers, err);
		r = fds[i] < 0 ? fds[i] : 0;
	}
	if (r == 0)
		r = read_state(dir, fds[2], err);
	if (r == 0)
		r = open_memory(dir, fds, err);
	for (unsigned i = 0, n = 0; i < opt->disk_count && r == 0; i++) {
		if (opt->disks[i].mode != DISK_COW)
			continue;
		dir->layers[i] = snapshot_dir_part(dir, SNAPSHOT_FIXED_FILES + n++, layers, err);
		r = dir->layers[i] < 0 ? dir->layers[i] : 0;
	}
	for (unsigned i = 0; i < SNAPSHOT_FIXED_FILES; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	return r ? r : snapshot_dir_open_below(dir, opt, err);
}

int snapshot_dir_verify(struct snapshot_dir *dir, bool but_memory, struct foal_error *err)
{
	struct state s;
	char why[360];
	int r;

	if (!state_load(&s, dir->state, dir->state_len))
		return snapshot_dir_refuse(dir, "state", -EBADMSG, s.error, err);
	for (unsigned i = 0, n = 0; i < MAX_FILES; i++) {
		uint64_t block = 0;
		if (dir->layers[i] < 0)
			continue;
		r = disk_layer_verify(dir->layers[i], &block);
		if (r) {
			snprintf(why, sizeof(why),
				 "damaged in the 4 KiB block %llu of the disk: %s",
				 (unsigned long long)block, strerror(-r));
			return snapshot_dir_refuse(
			    dir, snapshot_part(SNAPSHOT_FIXED_FILES + n, MAX_FILES), r, why, err);
		}
		n++;
	}
	r = but_memory ? 0 : ept_snapshot_verify(dir->memory, why, sizeof(why));
	if (r)
		return error_set(err, FOAL_EXIT_SNAPSHOT, r, "%s", why);
	return dir->below ? snapshot_dir_verify(dir->below, but_memory, err) : 0;
}

void snapshot_dir_close(struct snapshot_dir *dir)
{
	ept_snapshot_close(dir->memory);
	for (unsigned i = 0; i < MAX_FILES; i++)
		if (dir->layers[i] >= 0)
			close(dir->layers[i]);
	free(dir->state);
	json_decref(dir->manifest);
	if (dir->fd >= 0)
		close(dir->fd);
	if (dir->below) {
		char *path = (char *)(uintptr_t)dir->below->path;
		snapshot_dir_close(dir->below);
		free(path);
		free(dir->below);
	}
	snapshot_dir_init(dir);
}

/* --- written --------------------------------------------------------------------------- */

static int sync_part(int dir, unsigned i, unsigned layers, json_t *parts)
{
	const char *name = snapshot_part(i, layers);
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC), r = fd < 0 ? -errno : 0;
	char sum[SUM_HEX] = "";
	struct stat st = {0};

	if (r)
		return r;
	if (fsync(fd) || fstat(fd, &st))
		r = -errno;
	if (r == 0 && i > 0)
		r = sum_file(fd, summed_bytes(i), sum);
	close(fd);
	json_t *one =
	    json_pack("{s:s, s:I}", "name", name, "bytes", (json_int_t)(r ? 0 : st.st_size));
	if (i > 0)
		json_object_set_new(one, "sum", json_string(sum));
	json_array_append_new(parts, one);
	return r;
}

static int write_synced(int dir, const char *name, const char *text)
{
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600), r = 0;
	size_t len = strlen(text);

	if (fd < 0)
		return -errno;
	while (len && r == 0) {
		ssize_t n = write(fd, text, len);
		if (n <= 0)
			r = n ? -errno : -ENOSPC;
		else
			text += n, len -= (size_t)n;
	}
	if (r == 0 && fsync(fd))
		r = -errno;
	if (close(fd) && r == 0)
		r = -errno;
	return r ? r : fsync(dir) ? -errno : 0;
}

int snapshot_dir_write(int fd, const json_t *machine, const json_t *files, const json_t *written,
		       unsigned layers)
{
	json_t *parts = json_array();
	char sum[SUM_HEX];
	int r = 0;

	for (unsigned i = 0; snapshot_part(i, layers) && r == 0; i++)
		r = sync_part(fd, i, layers, parts);
	json_t *all =
	    json_pack("{s:i, s:s, s:O, s:O, s:O, s:O, s:o}", "format", FORMAT, "foal", foal_version,
		      "id", json_object_get(written, "id"), "machine", machine, "files", files,
		      "memory", json_object_get(written, "memory"), "parts", parts);
	if (json_object_get(written, "parent"))
		json_object_set(all, "parent", json_object_get(written, "parent"));
	char *text = NULL;
	if (r == 0 && !(all && sum_manifest(all, sum)))
		r = -ENOMEM;
	if (r == 0) {
		json_object_set_new(all, "sum", json_string(sum));
		text = json_dumps(all, JSON_INDENT(2));
		r = text ? write_synced(fd, SNAPSHOT_MANIFEST, text) : -ENOMEM;
	}
	free(text);
	json_decref(all);
	return r;
}
