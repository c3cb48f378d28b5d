/* foal snapshot merge: a snapshot and those that it is the difference to become one. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices/devices.h"
#include "ept/snapshot.h"
#include "vmm/remote.h"
#include "vmm/run.h"
#include "vmm/snapshot_dir.h"
#include "vmm/snapshot_out.h"

struct merging {
	const char *from, *to;
	bool json, compress;
	struct run_options machine;
	struct snapshot_dir dir;
	struct ept_snapshot *memory[SNAPSHOT_CHAIN_MAX];
	unsigned count; /* of snapshots */
	struct snapshot_out out;
	struct ept_snapshot_info info;
};

static int parse(int argc, char **argv, struct merging *m)
{
	static const struct option longs[] = {
	    {"compress", required_argument, NULL, 'c'}, {"json", no_argument, NULL, 'j'}, {0}};
	int i;

	opterr = 0;
	while ((i = getopt_long(argc, argv, ":", longs, NULL)) != -1) {
		if (i == 'c' && strcmp(optarg, "zstd") != 0)
			return usage_error("snapshot merge: --compress %s: give zstd", optarg);
		if (i != 'c' && i != 'j')
			return usage_error(i == ':' ? "snapshot merge: %s needs a value"
						    : "snapshot merge: %s: no such option; see "
						      "foal help snapshot",
					   argv[optind - 1]);
		m->compress |= i == 'c';
		m->json |= i == 'j';
	}
	if (argc - optind < 1 || argc - optind > 2)
		return usage_error(
		    "snapshot merge: give one DIR, and perhaps OUT; see foal help snapshot");
	m->from = argv[optind];
	m->to = argc - optind == 2 ? argv[optind + 1] : m->from;
	return 0;
}

/* --- the parts ----------------------------------------------------------------------------- */

static int write_state(const struct merging *m)
{
	for (size_t at = 0; at < m->dir.state_len;) {
		ssize_t n =
		    pwrite(m->out.files[2], m->dir.state + at, m->dir.state_len - at, (off_t)at);
		if (n <= 0)
			return n ? -errno : -ENOSPC;
		at += (size_t)n;
	}
	return 0;
}

static int write_layers(const struct merging *m)
{
	int r = 0;

	for (unsigned i = 0, n = 0; i < MAX_FILES && r == 0; i++) {
		int fds[SNAPSHOT_CHAIN_MAX];
		unsigned count = 0;

		if (m->dir.layers[i] < 0)
			continue;
		for (const struct snapshot_dir *dir = &m->dir; dir; dir = dir->below)
			fds[count++] = dir->layers[i];
		r = disk_layer_merge(fds, count, m->out.files[SNAPSHOT_FIXED_FILES + n++]);
	}
	return r;
}

/* It keeps its id: of each page and block it says what it said. */
static int write_memory(struct merging *m, struct foal_error *err)
{
	struct ept_snapshot_options options = {.memory_fd = m->out.files[0],
					       .index_fd = m->out.files[1],
					       .zstd_level = m->compress ? SNAPSHOT_ZSTD_LEVEL : 0};
	uint8_t parent[16];
	char why[360];
	int r;

	ept_snapshot_ids(m->dir.memory, options.id, parent);
	r = ept_snapshot_merge(m->memory, m->count, &options, &m->info, why, sizeof(why));
	return r ? error_set(err, FOAL_EXIT_SNAPSHOT, r, "%s", why) : 0;
}

static json_t *written_of(const struct merging *m)
{
	const struct ept_snapshot_info *i = &m->info;

	return json_pack("{s:O, s:{s:I, s:I, s:I, s:I, s:I, s:I}}", "id",
			 snapshot_dir_get(&m->dir, "id"), "memory", "memory_bytes",
			 (json_int_t)i->memory_bytes, "stored_bytes", (json_int_t)i->stored_bytes,
			 "index_bytes", (json_int_t)i->index_bytes, "extents",
			 (json_int_t)i->extents, "pages", (json_int_t)i->pages, "zero_pages",
			 (json_int_t)i->zero_pages);
}

/* --- the whole -------------------------------------------------------------------------------- */

static int open_all(struct merging *m, struct foal_error *err)
{
	int r = snapshot_open(&m->dir, m->from, &m->machine, err);

	if (r == 0 && m->dir.below && snapshot_dir_in_chain(m->dir.below, m->to))
		r = error_set(
		    err, FOAL_EXIT_SNAPSHOT, -EEXIST,
		    "%s: %s is the difference to it, and would have nothing to be one to; "
		    "give another name",
		    m->to, m->from);
	if (r == 0)
		m->count = snapshot_dir_memory(&m->dir, m->memory);
	return r ? r : snapshot_out_open(&m->out, m->to, snapshot_layers(&m->machine), err);
}

static int write_all(struct merging *m, json_t **written, struct foal_error *err)
{
	int r = write_state(m);

	if (r == 0)
		r = write_layers(m);
	if (r)
		return snapshot_out_fail(&m->out, r, err);
	r = write_memory(m, err);
	if (r)
		return r;
	*written = written_of(m);
	r = snapshot_dir_write(m->out.fd, snapshot_dir_get(&m->dir, "machine"),
			       snapshot_dir_get(&m->dir, "files"), *written, m->out.layers);
	return r ? snapshot_out_fail(&m->out, r, err) : 0;
}

/* It is of the same id; never needed. */
static void keep_working_set(const struct merging *m)
{
	if (snapshot_dir_in_chain(&m->dir, m->to))
		renameat(m->dir.fd, SNAPSHOT_WORKING_SET, m->out.fd, SNAPSHOT_WORKING_SET);
}

static void say(const struct merging *m, json_t *written)
{
	if (m->json) {
		json_object_set_new(written, "dir", json_string(m->to));
		json_object_set_new(written, "snapshots", json_integer(m->count));
		remote_print(written);
		return;
	}
	printf("%s: stands alone, made of %u: %.1f MiB of memory in %llu extents\n", m->to,
	       m->count, (double)m->info.stored_bytes / (1 << 20),
	       (unsigned long long)m->info.extents);
}

int snapshot_merge(int argc, char **argv)
{
	struct merging m = {.out = {.fd = -1}};
	struct foal_error err = {0};
	json_t *written = NULL;
	int r = parse(argc, argv, &m);

	if (r)
		return r;
	snapshot_dir_init(&m.dir);
	options_defaults(&m.machine);
	r = open_all(&m, &err);
	if (r == 0)
		r = write_all(&m, &written, &err);
	if (r == 0) {
		keep_working_set(&m);
		r = snapshot_out_commit(&m.out, &err);
	}
	if (r == 0)
		say(&m, written);
	else
		error_print(&err);
	json_decref(written);
	snapshot_out_close(&m.out);
	snapshot_dir_close(&m.dir);
	options_free(&m.machine);
	return r ? err.status : 0;
}
