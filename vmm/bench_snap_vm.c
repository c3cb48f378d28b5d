/*
 * Rows of whole VMs: foal run, snapshot, restore as a user calls them, with the bench's guest,
 * which says "ready" when it has touched what it is to touch, and ends when it is sent a byte.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest/abi.h"
#include "vmm/bench_snapshots.h"
#include "vmm/bench_vm.h"
#include "vmm/helper.h"

#define SMALL_RAM  "1G"
#define STATS_MOST (1UL << 18) /* bytes of a report */

/* What foal snapshot says of it. */
static json_t *snapshot(struct snap_bench *bench, const char *name, const char *dir)
{
	char *argv[] = {"foal",	  "snapshot",	"--run-dir", bench->dir,
			"--json", (char *)name, (char *)dir, NULL};

	return snap_ask(bench, argv);
}

/* --- restore: exec to the first KVM_RUN --------------------------------------------------- */

static int make_snapshot(struct snap_bench *bench, const struct snap_case *c, const char *dir)
{
	const struct bench_job small = {
	    .cpus = 1, .serial = 1, .write = 1, .touches = 1, .base = RAM_BASE - EPT_PAGE_SIZE};
	char name[16], memory[16];
	struct snap_job vm;
	json_t *said;

	snprintf(name, sizeof(name), "vm%u", c->mib);
	snprintf(memory, sizeof(memory), "%uM", c->mib);
	if (snap_start_guest(bench, name, &small, memory, "auto", &vm))
		return -1;
	said = snapshot(bench, name, dir);
	json_decref(said);
	snap_kill(&vm);
	return said ? 0 : -1;
}

static int time_restore(struct snap_bench *bench, const char *dir, double *us)
{
	char *argv[] = {"foal", "restore", (char *)dir, "--stats", "json", NULL};
	char *text = malloc(STATS_MOST);
	json_t *root = NULL, *ns = NULL;
	uint64_t exec_ns = 0;
	struct snap_job job;
	int r;

	if (!text || snap_start_self(bench, argv, true, &job)) {
		free(text);
		return -1;
	}
	r = snap_stamp(&job, &exec_ns);
	if (r == 0 && write(job.in, "x", 1) == 1)
		r = snap_hear(&job, NULL, text, STATS_MOST);
	if (snap_finish(&job) == 0 && r == 0)
		root = json_loads(text, 0, NULL);
	free(text);
	ns = json_object_get(json_object_get(root, "start"), "first_run_ns");
	*us = json_is_number(ns) ? (json_number_value(ns) - (double)exec_ns) / 1000 : 0;
	json_decref(root);
	return *us > 0 ? 0 : snap_cannot(bench, "foal restore failed");
}

static void snapshot_path(const struct snap_bench *bench, const struct snap_case *c, char *path,
			  size_t size)
{
	snprintf(path, size, "%s/vm%u.snap", bench->dir, c->mib);
}

static int restore_plain(struct snap_bench *bench, const struct snap_case *c, struct snap_pair *out)
{
	return snap_bare(bench, c->mib, &out->plain);
}

static int restore_ours(struct snap_bench *bench, const struct snap_case *c, struct snap_pair *out)
{
	char dir[4096];

	snapshot_path(bench, c, dir, sizeof(dir));
	return time_restore(bench, dir, &out->ours);
}

int snap_restore(struct snap_bench *bench, const struct snap_case *c, unsigned round,
		 struct snap_pair *out)
{
	char dir[4096];
	int r = 0;

	snapshot_path(bench, c, dir, sizeof(dir));
	if (access(dir, F_OK))
		r = make_snapshot(bench, c, dir);
	return r ? r : snap_in_turn(bench, c, round, restore_plain, restore_ours, out);
}

/* --- snapshot: how long the guest stands still ------------------------------------------------ */

static void remove_snapshot(const char *dir)
{
	static const char *const parts[] = {"manifest.json", "state", "memory", "memory.index"};
	char path[4200];

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, parts[i]);
		unlink(path);
	}
	rmdir(dir);
}

int snap_pause(struct snap_bench *bench, const struct snap_case *c, unsigned round,
	       struct snap_pair *out)
{
	const uint32_t pages = bench->opt->pages ? (uint32_t)bench->opt->pages : c->mib << 8;
	const struct bench_job touching = {
	    .cpus = 1, .serial = 1, .write = 1, .touches = pages, .base = RAM_BASE};
	char dir[4096];
	struct snap_job vm;
	json_t *said;

	(void)round;
	snprintf(dir, sizeof(dir), "%s/pause.snap", bench->dir);
	if (snap_start_guest(bench, "pause", &touching, SMALL_RAM, "auto", &vm))
		return -1;
	said = snapshot(bench, "pause", dir);
	out->ours = snap_number(said, "paused_ns") / 1e6;
	json_decref(said);
	snap_kill(&vm);
	remove_snapshot(dir);
	return out->ours > 0 ? 0 : snap_cannot(bench, "foal snapshot does not say the pause");
}
