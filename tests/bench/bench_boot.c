/*
 * make bench-boot: a stock Linux guest of foal beside the same of another
 * monitor, on one host: how soon KVM_RUN is entered and the guest's first
 * process runs, and the host memory then.
 *
 *   bench_boot OUT.json STATS ROUNDS OURS [ARG]... -- PLAIN [ARG]...
 *
 * The guest's init is tests/linux/jobs/bench. STATS is where OURS leaves its
 * statistics. Both have their guest's serial line on stdin and stdout. Times
 * count from just before exec. KVM_RUN is seen by the kernel's tracepoint
 * kvm:kvm_entry, for both alike: this needs root and tracefs.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/bench/boot_memory.h"
#include "tests/bench/series.h"

#define MAX_OUTPUT    (1 << 18)
#define MEMORY_ROUNDS 3
#define WAIT_MS	      120000

/* One monitor: its command, and what was measured of it. */
struct monitor {
	char **argv;
	struct series first_run, init, root;	     /* ms; root: after going on from init */
	struct series memory_first_run, memory_init; /* MiB */
};

/* --- the moment of the first KVM_RUN, by tracefs --------------------------------- */

#define TRACING "/sys/kernel/tracing/"
#define EVENTS	TRACING "events/kvm/"

static bool trace_write(const char *file, const char *text)
{
	int fd = open(file, O_WRONLY | O_TRUNC | O_CLOEXEC);
	bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return ok;
}

/* Record entries of any guest until the first exit: the others cost nothing. */
static void trace_arm(void)
{
	trace_write(EVENTS "kvm_exit/trigger", "!disable_event:kvm:kvm_entry:1");
	if (!trace_write(TRACING "trace_clock", "mono") || !trace_write(TRACING "trace", "\n") ||
	    !trace_write(EVENTS "kvm_exit/trigger", "disable_event:kvm:kvm_entry:1") ||
	    !trace_write(EVENTS "kvm_entry/enable", "1"))
		die(EVENTS ": %s", strerror(errno));
}

/* CLOCK_MONOTONIC of the entry recorded, ns. */
static double trace_first_run(void)
{
	char line[512];
	double seconds = 0;
	FILE *f = fopen(TRACING "trace", "r");

	while (f && seconds == 0 && fgets(line, sizeof(line), f)) {
		char *at = line[0] == '#' ? NULL : strstr(line, ": kvm_entry:");
		if (!at)
			continue;
		while (at > line && at[-1] != ' ')
			at--;
		seconds = strtod(at, NULL);
	}
	if (f)
		fclose(f);
	if (seconds == 0)
		die("kvm_entry was not recorded");
	return seconds * 1e9;
}

/* --- a run ------------------------------------------------------------------------ */

struct console {
	pid_t pid;
	int in, out;
	size_t len;
	char text[MAX_OUTPUT];
};

static volatile uint64_t exec_ns_of_child;

/* vfork shares our memory, so the child can leave the moment of its exec there. */
static void start(struct console *c, char *const argv[])
{
	int in[2], out[2];

	if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC))
		die("pipe: %s", strerror(errno));
	fflush(stdout);
	/* NOLINTBEGIN(clang-analyzer-*fork): what the child does is what vfork is here for */
	c->pid = vfork();
	if (c->pid == 0) {
		dup2(in[0], STDIN_FILENO);
		dup2(out[1], STDOUT_FILENO);
		setpgid(0, 0);
		exec_ns_of_child = now_ns();
		execv(argv[0], argv);
		_exit(127);
	}
	/* NOLINTEND(clang-analyzer-*fork) */
	if (c->pid < 0)
		die("vfork: %s", strerror(errno));
	close(in[0]);
	close(out[1]);
	c->in = in[1];
	c->out = out[0];
	c->len = 0;
	c->text[0] = 0;
}

/* The moment that the guest has said @text. */
static uint64_t heard(struct console *c, const char *text)
{
	struct pollfd fd = {.fd = c->out, .events = POLLIN};

	while (!strstr(c->text, text)) {
		ssize_t n = 0;
		if (c->len < sizeof(c->text) - 1 && poll(&fd, 1, WAIT_MS) == 1)
			n = read(c->out, c->text + c->len, sizeof(c->text) - 1 - c->len);
		if (n <= 0) {
			kill(-c->pid, SIGKILL);
			die("\"%s\" was not heard, but:\n%s", text, c->text);
		}
		c->len += (size_t)n;
		c->text[c->len] = 0;
	}
	return now_ns();
}

static void answer(struct console *c)
{
	if (write(c->in, "\n", 1) != 1)
		die("the guest's console: %s", strerror(errno));
}

/* What was to be seen of it has been seen. */
static void end(struct console *c)
{
	kill(-c->pid, SIGTERM);
	if (waitpid(c->pid, NULL, 0) != c->pid)
		die("waitpid: %s", strerror(errno));
	close(c->in);
	close(c->out);
}

static void boot(struct monitor *m)
{
	static struct console c;

	trace_arm();
	start(&c, m->argv);
	double exec = (double)exec_ns_of_child;
	series_add(&m->init, ((double)heard(&c, "guest: init") - exec) / 1e6);
	series_add(&m->first_run, (trace_first_run() - exec) / 1e6);
	series_add(&m->memory_init, (double)memory_of_group(c.pid) / 1024);
	uint64_t go_on = now_ns();
	answer(&c);
	series_add(&m->root, (double)(heard(&c, "guest: root") - go_on) / 1e6);
	end(&c);
}

/* --- the result -------------------------------------------------------------------- */

static void print_read(const char *stats)
{
	size_t i;
	json_t *file, *root = json_load_file(stats, 0, NULL);

	json_array_foreach(json_object_get(root, "files"), i, file)
	{
		double size = json_number_value(json_object_get(file, "size"));
		double read = json_number_value(json_object_get(file, "read"));
		printf("%-7s %6.1f of %6.1f MiB read (%3.0f %%)\n",
		       json_string_value(json_object_get(file, "use")), read / (1 << 20),
		       size / (1 << 20), 100 * read / size);
	}
	json_decref(root);
}

static json_t *report(struct monitor *ours, struct monitor *plain)
{
	json_t *rows = json_array();

	series_row(rows, "boot.first_run", "ms", &ours->first_run, &plain->first_run, "ratio <= 1");
	series_row(rows, "boot.init", "ms", &ours->init, &plain->init, "ratio <= 1");
	series_row(rows, "boot.root", "ms", &ours->root, &plain->root, "none");
	series_row(rows, "boot.memory.first_run", "MiB", &ours->memory_first_run,
		   &plain->memory_first_run, "ratio <= 1");
	series_row(rows, "boot.memory.init", "MiB", &ours->memory_init, &plain->memory_init,
		   "ratio <= 1");
	return rows;
}

int main(int argc, char **argv)
{
	static struct monitor ours, plain;
	int split = 4;

	while (split < argc && strcmp(argv[split], "--") != 0)
		split++;
	if (split >= argc - 1)
		die("usage: bench_boot OUT.json STATS ROUNDS OURS [ARG]... -- PLAIN [ARG]...");
	argv[split] = NULL;
	ours.argv = argv + 4;
	plain.argv = argv + split + 1;
	for (int i = 0; i < MEMORY_ROUNDS; i++) {
		series_add(&ours.memory_first_run, (double)memory_at_first_run(ours.argv) / 1024);
		series_add(&plain.memory_first_run, (double)memory_at_first_run(plain.argv) / 1024);
	}
	for (long i = 0, rounds = strtol(argv[3], NULL, 10); i < rounds; i++) {
		boot(&ours);
		boot(&plain);
	}
	json_t *rows = report(&ours, &plain);
	print_read(argv[2]);
	series_write(rows, argv[1]);
	return 0;
}
