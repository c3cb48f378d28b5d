/*
 * The directory that the rows of whole VMs have their files in, and the names of their VMs. A
 * template and what is cloned of it are nobody's children: who ends them knows them by that
 * directory. If the bench is killed that is its keeper, a process that does nothing else.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/bench_snapshots.h"
#include "vmm/client.h"
#include "vmm/fork.h"

#define ANSWER_MS 10000
#define ROUNDS	  300 /* of asking all that are left to end */
#define ROUND_MS  100

/* --- the VMs ------------------------------------------------------------------------------ */

struct ending {
	const struct run_dir *dir;
	unsigned left;
};

static void end_one(void *ctx, const char *name)
{
	struct ending *ending = ctx;
	struct foal_error ignored = {0};
	struct client client;

	if (name_tidy(ending->dir, name))
		return;
	ending->left++;
	if (client_open_within(&client, ending->dir, name, ANSWER_MS, &ignored))
		return;
	json_decref(client_ask(&client, "stop", json_pack("{s:b}", "kill", 1), -1, &ignored));
	client_close(&client);
}

/* A template may be making clones just now: until none is left. */
static void end_all(const char *path)
{
	struct foal_error ignored = {0};
	struct run_dir dir;
	struct ending ending = {.dir = &dir, .left = 1};

	if (run_dir_open(&dir, path, false, &ignored))
		return;
	for (unsigned i = 0; i < ROUNDS && ending.left; i++) {
		if (i)
			poll(NULL, 0, ROUND_MS);
		ending.left = 0;
		names_each(&dir, end_one, &ending);
	}
	run_dir_close(&dir);
}

/* --- the directory ------------------------------------------------------------------------ */

/* What a bench makes has no directory in a directory. */
static void remove_tree(const char *path, unsigned depth)
{
	DIR *dir = opendir(path);
	struct dirent *e;
	char inner[4096];

	while (dir && (e = readdir(dir))) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		snprintf(inner, sizeof(inner), "%s/%s", path, e->d_name);
		if (unlink(inner) && errno == EISDIR && depth)
			remove_tree(inner, depth - 1);
	}
	if (dir)
		closedir(dir);
	rmdir(path);
}

static void end_and_remove(const char *path)
{
	end_all(path);
	remove_tree(path, 2);
}

/* --- the keeper --------------------------------------------------------------------------- */

/* What signals end the bench are not for it; nobody waits for the end of what it says. */
static _Noreturn void keep(const char *path, int parent)
{
	struct pollfd fd = {.events = POLLIN};

	setsid();
	dup2(parent, STDIN_FILENO);
	close(STDOUT_FILENO);
	close(STDERR_FILENO);
	syscall(SYS_close_range, STDERR_FILENO + 1, ~0U, 0);
	open("/dev/null", O_WRONLY);
	open("/dev/null", O_WRONLY);
	while (poll(&fd, 1, -1) != 1)
		;
	end_and_remove(path);
	process_end(0);
}

static int start_keeper(struct snap_bench *bench)
{
	int self = (int)syscall(SYS_pidfd_open, getpid(), 0);

	if (self < 0)
		return -errno;
	bench->keeper = fork();
	if (bench->keeper == 0)
		keep(bench->dir, self);
	int r = bench->keeper < 0 ? -errno : 0;
	close(self);
	return r;
}

/* --- for the bench ------------------------------------------------------------------------ */

int snap_dir_make(struct snap_bench *bench, struct foal_error *err)
{
	const char *dir = bench->opt->dir;
	size_t n = (size_t)snprintf(bench->dir, sizeof(bench->dir), "%s/foal-bench-XXXXXX", dir);

	if (n >= sizeof(bench->dir) || !mkdtemp(bench->dir))
		return error_set(err, FOAL_EXIT_DISK, -errno,
				 "bench: a directory in %s: %s; --dir names another place", dir,
				 strerror(errno));
	int r = start_keeper(bench);
	if (r == 0)
		return 0;
	rmdir(bench->dir);
	return error_set(err, FOAL_EXIT_HOST, r, "bench: a process to end its VMs: %s",
			 error_text(r));
}

void snap_dir_remove(const struct snap_bench *bench)
{
	end_and_remove(bench->dir);
	kill(bench->keeper, SIGKILL);
	waitpid(bench->keeper, NULL, 0);
}
