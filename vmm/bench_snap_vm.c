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

#include "vmm/bench_snapshots.h"
#include "vmm/bench_vm.h"
#include "vmm/helper.h"

#define PATIENCE_MS 120000
#define SELF	    "/proc/self/exe"
/* Where the pages lie that it touches: behind all that is loaded. */
#define RAM_BASE    0x10000000UL
#define SMALL_RAM   "1G"
/* RAM of which 1 GiB lies at BENCH_GPA. */
#define LARGE_RAM   "4G"

/* A program that was started: what it says, and how to make it end. */
struct job {
	pid_t pid;
	int out, in;
};

/* --- programs ---------------------------------------------------------------------------- */

static int start(struct snap_bench *bench, const char *path, char *const argv[], bool stamp,
		 struct job *job)
{
	int fds[2];

	*job = (struct job){.pid = -1, .out = -1, .in = -1};
	if (pipe2(fds, O_CLOEXEC))
		return snap_cannot(bench, "pipe: %s", strerror(errno));
	job->pid = helper_program(path, argv, fds[0], stamp, &job->out);
	job->in = fds[1];
	close(fds[0]);
	return job->pid < 0 ? snap_cannot(bench, "%s: cannot be started", argv[0]) : 0;
}

/* -1: it did not end with 0. */
static int finish(struct job *job)
{
	int status = -1;

	if (job->in >= 0)
		close(job->in);
	if (job->out >= 0)
		close(job->out);
	if (job->pid > 0 && waitpid(job->pid, &status, 0) != job->pid)
		status = -1;
	*job = (struct job){.pid = -1, .out = -1, .in = -1};
	return status ? -1 : 0;
}

static void kill_job(struct job *job)
{
	if (job->pid > 0)
		kill(job->pid, SIGKILL);
	finish(job);
}

/* All that it says until it ends, or until it says @word (NULL: nothing does). */
static int hear(struct job *job, const char *word, char *text, size_t size)
{
	struct pollfd fd = {.fd = job->out, .events = POLLIN};
	size_t len = 0;

	text[0] = 0;
	while (len < size - 1 && poll(&fd, 1, PATIENCE_MS) == 1) {
		ssize_t n = read(job->out, text + len, size - 1 - len);
		if (n < 0)
			return -1;
		if (n == 0)
			return word ? -1 : 0;
		len += (size_t)n;
		text[len] = 0;
		if (word && strstr(text, word))
			return 0;
	}
	return -1;
}

static int read_stamp(struct job *job, uint64_t *ns)
{
	return read(job->out, ns, sizeof(*ns)) == sizeof(*ns) ? 0 : -1;
}

/* A foal command, to its end; what it says is JSON. */
static json_t *ask(struct snap_bench *bench, char *const argv[])
{
	char text[8192];
	struct job job;
	json_t *said = NULL;

	if (start(bench, SELF, argv, false, &job))
		return NULL;
	if (hear(&job, NULL, text, sizeof(text)) == 0)
		said = json_loads(text, 0, NULL);
	if (finish(&job) || !said) {
		json_decref(said);
		snap_cannot(bench, "foal %s failed", argv[1]);
		return NULL;
	}
	return said;
}

static double number(const json_t *said, const char *field)
{
	const json_t *n = json_object_get(said, field);

	return json_is_number(n) ? json_number_value(n) : 0;
}

/* --- a VM ----------------------------------------------------------------------------------- */

/* Its kernel, as the file DIR/NAME.elf. */
static int make_kernel(struct snap_bench *bench, const char *name, const struct bench_job *job,
		       char *path, size_t size)
{
	char *elf = malloc(bench_guest_size());
	size_t len = bench_guest_size();
	int fd;

	snprintf(path, size, "%s/%s.elf", bench->dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (elf)
		bench_guest_copy(elf, job);
	bool done = elf && fd >= 0 && write(fd, elf, len) == (ssize_t)len;
	free(elf);
	if (fd >= 0)
		close(fd);
	return done ? 0 : snap_cannot(bench, "%s: cannot be written", path);
}

/* One that runs, and has said "ready". */
static int start_vm(struct snap_bench *bench, const char *name, const char *kernel,
		    const char *memory, const char *huge, struct job *vm)
{
	char *argv[] = {"foal",	    "run",	  "--name",	  (char *)name, "--run-dir",
			bench->dir, "--kernel",	  (char *)kernel, "--memory",	(char *)memory,
			"--huge",   (char *)huge, "--stats",	  "off",	NULL};
	char text[512];

	if (start(bench, SELF, argv, false, vm))
		return -1;
	if (hear(vm, "ready\n", text, sizeof(text)) == 0)
		return 0;
	kill_job(vm);
	return snap_cannot(bench, "a VM did not get as far as touching its memory");
}

/* The same with a kernel that is made if it is not there yet. */
static int start_guest(struct snap_bench *bench, const char *name, const struct bench_job *job,
		       const char *memory, const char *huge, struct job *vm)
{
	char kernel[4096];

	snprintf(kernel, sizeof(kernel), "%s/%s.elf", bench->dir, name);
	if (access(kernel, F_OK) && make_kernel(bench, name, job, kernel, sizeof(kernel)))
		return -1;
	return start_vm(bench, name, kernel, memory, huge, vm);
}

/* What foal snapshot says of it. */
static json_t *snapshot(struct snap_bench *bench, const char *name, const char *dir)
{
	char *argv[] = {"foal",	  "snapshot",	"--run-dir", bench->dir,
			"--json", (char *)name, (char *)dir, NULL};

	return ask(bench, argv);
}

/* --- restore: exec to the first KVM_RUN --------------------------------------------------- */

static int make_snapshot(struct snap_bench *bench, const struct snap_case *c, const char *dir)
{
	const struct bench_job small = {
	    .cpus = 1, .serial = 1, .write = 1, .touches = 1, .base = RAM_BASE - EPT_PAGE_SIZE};
	char name[16], memory[16];
	struct job vm;
	json_t *said;

	snprintf(name, sizeof(name), "vm%u", c->mib);
	snprintf(memory, sizeof(memory), "%uM", c->mib);
	if (start_guest(bench, name, &small, memory, "auto", &vm))
		return -1;
	said = snapshot(bench, name, dir);
	json_decref(said);
	kill_job(&vm);
	return said ? 0 : -1;
}

static int time_restore(struct snap_bench *bench, const char *dir, double *us)
{
	char *argv[] = {"foal", "restore", (char *)dir, "--stats", "json", NULL};
	static char text[1 << 18];
	json_t *root = NULL, *ns = NULL;
	uint64_t exec_ns = 0;
	struct job job;
	int r;

	if (start(bench, SELF, argv, true, &job))
		return -1;
	r = read_stamp(&job, &exec_ns);
	if (r == 0 && write(job.in, "x", 1) == 1)
		r = hear(&job, NULL, text, sizeof(text));
	if (finish(&job) == 0 && r == 0)
		root = json_loads(text, 0, NULL);
	ns = json_object_get(json_object_get(root, "start"), "first_run_ns");
	*us = json_is_number(ns) ? (json_number_value(ns) - (double)exec_ns) / 1000 : 0;
	json_decref(root);
	return *us > 0 ? 0 : snap_cannot(bench, "foal restore failed");
}

static int time_bare(struct snap_bench *bench, unsigned mib, double *us)
{
	char text[64], size[16];
	char *argv[] = {"bare_kvm", size, "restore", NULL};
	uint64_t exec_ns = 0;
	struct job job;
	int r;

	*us = 0;
	snprintf(size, sizeof(size), "%u", mib);
	if (!bench->opt->bare)
		return 0;
	if (start(bench, bench->opt->bare, argv, true, &job))
		return -1;
	r = read_stamp(&job, &exec_ns);
	if (r == 0)
		r = hear(&job, NULL, text, sizeof(text));
	if (finish(&job) || r)
		return snap_cannot(bench, "%s failed", bench->opt->bare);
	*us = (double)(strtoull(text, NULL, 10) - exec_ns) / 1000;
	return 0;
}

int snap_restore(struct snap_bench *bench, const struct snap_case *c, unsigned round,
		 struct snap_pair *out)
{
	char dir[4096];
	int r = 0;

	snprintf(dir, sizeof(dir), "%s/vm%u.snap", bench->dir, c->mib);
	if (access(dir, F_OK))
		r = make_snapshot(bench, c, dir);
	if (r == 0 && round % 2)
		r = time_bare(bench, c->mib, &out->plain);
	if (r == 0)
		r = time_restore(bench, dir, &out->ours);
	if (r == 0 && !(round % 2))
		r = time_bare(bench, c->mib, &out->plain);
	return r;
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
	struct job vm;
	json_t *said;

	(void)round;
	snprintf(dir, sizeof(dir), "%s/pause.snap", bench->dir);
	if (start_guest(bench, "pause", &touching, SMALL_RAM, "auto", &vm))
		return -1;
	said = snapshot(bench, "pause", dir);
	out->ours = number(said, "paused_ns") / 1e6;
	json_decref(said);
	kill_job(&vm);
	remove_snapshot(dir);
	return out->ours > 0 ? 0 : snap_cannot(bench, "foal snapshot does not say the pause");
}

/* --- reset: pages that were written are put back ------------------------------------------------
 */

/* foal reset @name, with @word if that is not NULL. */
static json_t *reset(struct snap_bench *bench, const char *name, const char *word)
{
	char *argv[] = {"foal",	  "reset",	"--run-dir",  bench->dir,
			"--json", (char *)name, (char *)word, NULL};

	return ask(bench, argv);
}

int snap_reset(struct snap_bench *bench, const struct snap_case *c, unsigned round,
	       struct snap_pair *out)
{
	const struct bench_job dirtying = {.cpus = 1,
					   .serial = 1,
					   .write = 1,
					   .touches = 8192,
					   .again = c->pages,
					   .base = RAM_BASE};
	char name[16], text[512];
	struct job vm;
	json_t *said;
	int r;

	(void)round;
	snprintf(name, sizeof(name), "reset%u", c->pages);
	if (start_guest(bench, name, &dirtying, SMALL_RAM, "auto", &vm))
		return -1;
	said = reset(bench, name, "--here");
	json_decref(said);
	r = said ? 0 : -1;
	if (r == 0 && (write(vm.in, "x", 1) != 1 || hear(&vm, "done", text, sizeof(text))))
		r = snap_cannot(bench, "the guest did not write its pages");
	said = r == 0 ? reset(bench, name, NULL) : NULL;
	out->ours = number(said, "took_ns") / 1e3;
	if (said && number(said, "pages") < c->pages)
		r = snap_cannot(bench, "%.0f pages were put back, not %u", number(said, "pages"),
				c->pages);
	json_decref(said);
	kill_job(&vm);
	return r == 0 && out->ours <= 0 ? -1 : r;
}

/* --- fork: the longest time that the parent's guest does not run ---------------------------------
 */

static json_t *fork_vm(struct snap_bench *bench, const char *name, const char *child)
{
	char *argv[] = {"foal",	  "fork",	 "--run-dir",  bench->dir, "--json",
			"--name", (char *)child, (char *)name, NULL};

	return ask(bench, argv);
}

static void stop_vm(struct snap_bench *bench, const char *name)
{
	char *argv[] = {"foal", "stop", "--run-dir", bench->dir, "--kill", (char *)name, NULL};
	char text[512];
	struct job job;

	if (start(bench, SELF, argv, false, &job))
		return;
	hear(&job, NULL, text, sizeof(text));
	finish(&job);
}

/* What the guest says of itself, in milliseconds. */
static int ask_gap(struct snap_bench *bench, struct job *vm, double *ms)
{
	char text[512];

	if (write(vm->in, "x", 1) != 1 || hear(vm, ".", text, sizeof(text)))
		return snap_cannot(bench, "the guest does not tell of gaps");
	*ms = (double)strtoull(text, NULL, 16) / bench_tsc_khz();
	return 0;
}

int snap_fork(struct snap_bench *bench, const struct snap_case *c, unsigned round,
	      struct snap_pair *out)
{
	const struct bench_job writing = {.cpus = 1,
					  .serial = 1,
					  .write = 1,
					  .gap = 1,
					  .touches = c->mib << 8,
					  .base = BENCH_GPA};
	bool huge = c->flags & SNAP_HUGE, again = c->flags & SNAP_AGAIN;
	json_t *first = NULL, *second = NULL;
	struct job vm;
	int r;

	(void)round;
	bench_warm_bytes(&bench->warm, (uint64_t)c->mib << 20);
	r = start_guest(bench, "forked", &writing, LARGE_RAM, huge ? "always" : "never", &vm);
	if (r)
		return r;
	first = fork_vm(bench, "forked", "child");
	if (first && again)
		second = fork_vm(bench, "child", "grandchild");
	r = first && (second || !again) ? 0 : -1;
	if (r == 0 && again)
		out->ours = number(second, "paused_ns") / 1e6;
	else if (r == 0)
		r = ask_gap(bench, &vm, &out->ours);
	if (second)
		stop_vm(bench, "grandchild");
	if (first)
		stop_vm(bench, "child");
	json_decref(first);
	json_decref(second);
	kill_job(&vm);
	if (r == 0 && !huge) {
		bench_warm_bytes(&bench->warm, (uint64_t)c->mib << 20);
		r = snap_bare_fork(bench, c, &out->plain);
	}
	return r;
}
