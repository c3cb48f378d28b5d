/* What rows of whole VMs are made of: programs that are started and heard, a VM of the guest's. */
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

/* --- programs ---------------------------------------------------------------------------- */

int snap_start(struct snap_bench *bench, const char *path, char *const argv[], bool stamp,
	       struct snap_job *job)
{
	int fds[2];

	*job = (struct snap_job){.pid = -1, .out = -1, .in = -1};
	if (pipe2(fds, O_CLOEXEC))
		return snap_cannot(bench, "pipe: %s", strerror(errno));
	job->pid = helper_program(path, argv, fds[0], stamp, &job->out);
	job->in = fds[1];
	close(fds[0]);
	if (job->pid >= 0)
		return 0;
	snap_finish(job);
	return snap_cannot(bench, "%s: cannot be started", argv[0]);
}

int snap_start_self(struct snap_bench *bench, char *const argv[], bool stamp, struct snap_job *job)
{
	return snap_start(bench, SELF, argv, stamp, job);
}

int snap_finish(struct snap_job *job)
{
	int status = -1;

	if (job->in >= 0)
		close(job->in);
	if (job->out >= 0)
		close(job->out);
	if (job->pid > 0 && waitpid(job->pid, &status, 0) != job->pid)
		status = -1;
	*job = (struct snap_job){.pid = -1, .out = -1, .in = -1};
	return status ? -1 : 0;
}

void snap_kill(struct snap_job *job)
{
	if (job->pid > 0)
		kill(job->pid, SIGKILL);
	snap_finish(job);
}

int snap_hear(struct snap_job *job, const char *word, char *text, size_t size)
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

int snap_stamp(struct snap_job *job, uint64_t *ns)
{
	return read(job->out, ns, sizeof(*ns)) == sizeof(*ns) ? 0 : -1;
}

#define SAID_MOST (1UL << 20) /* of 1,000 clones */

json_t *snap_ask_all(struct snap_bench *bench, char *const argv[], bool *failed)
{
	struct snap_job job;
	json_t *said = NULL;

	*failed = true;
	if (snap_start_self(bench, argv, false, &job))
		return NULL;
	/* Not a static one: each VM would have its page tables, and none uses it. */
	char *text = malloc(SAID_MOST);
	if (text && snap_hear(&job, NULL, text, SAID_MOST) == 0)
		said = json_loads(text, 0, NULL);
	free(text);
	*failed = snap_finish(&job) || !said;
	if (*failed)
		snap_cannot(bench, "foal %s failed", argv[1]);
	return said;
}

json_t *snap_ask(struct snap_bench *bench, char *const argv[])
{
	bool failed;
	json_t *said = snap_ask_all(bench, argv, &failed);

	if (!failed)
		return said;
	json_decref(said);
	return NULL;
}

double snap_number(const json_t *said, const char *field)
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

/* One that runs, and has said "ready\n". */
static int start_vm(struct snap_bench *bench, const char *name, const char *kernel,
		    const char *memory, const char *huge, bool bell, struct snap_job *vm)
{
	char *argv[] = {
	    "foal",	"run",	      "--name",	      (char *)name, "--run-dir",
	    bench->dir, "--kernel",   (char *)kernel, "--memory",   (char *)memory,
	    "--huge",	(char *)huge, "--stats",      "off",	    bell ? "--reset-port" : NULL,
	    "on",	NULL};
	char text[512];

	if (snap_start_self(bench, argv, false, vm))
		return -1;
	if (snap_hear(vm, "ready\n", text, sizeof(text)) == 0)
		return 0;
	snap_kill(vm);
	return snap_cannot(bench, "a VM did not get as far as touching its memory");
}

int snap_start_guest(struct snap_bench *bench, const char *name, const struct bench_job *job,
		     const char *memory, const char *huge, struct snap_job *vm)
{
	char kernel[4096];

	snprintf(kernel, sizeof(kernel), "%s/%s.elf", bench->dir, name);
	if (access(kernel, F_OK) && make_kernel(bench, name, job, kernel, sizeof(kernel)))
		return -1;
	return start_vm(bench, name, kernel, memory, huge, job->bell, vm);
}

void snap_stop_vm(struct snap_bench *bench, const char *name)
{
	char *argv[] = {"foal", "stop", "--run-dir", bench->dir, "--kill", (char *)name, NULL};
	char text[512];
	struct snap_job job;

	if (snap_start_self(bench, argv, false, &job))
		return;
	snap_hear(&job, NULL, text, sizeof(text));
	snap_finish(&job);
}

int snap_bare(struct snap_bench *bench, unsigned mib, double *us)
{
	char text[64], size[16];
	char *argv[] = {"bare_kvm", size, "restore", NULL};
	uint64_t exec_ns = 0;
	struct snap_job job;
	int r;

	*us = 0;
	snprintf(size, sizeof(size), "%u", mib);
	if (!bench->opt->bare)
		return 0;
	if (snap_start(bench, bench->opt->bare, argv, true, &job))
		return -1;
	r = snap_stamp(&job, &exec_ns);
	if (r == 0)
		r = snap_hear(&job, NULL, text, sizeof(text));
	if (snap_finish(&job) || r)
		return snap_cannot(bench, "%s failed", bench->opt->bare);
	*us = (double)(strtoull(text, NULL, 10) - exec_ns) / 1000;
	return 0;
}

int snap_in_turn(struct snap_bench *bench, const struct snap_case *c, unsigned round,
		 snap_side *plain, snap_side *ours, struct snap_pair *out)
{
	snap_side *first = round % 2 ? plain : ours, *second = round % 2 ? ours : plain;
	int r = first(bench, c, out);

	return r ? r : second(bench, c, out);
}
