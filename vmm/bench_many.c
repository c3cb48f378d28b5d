/*
 * Host memory of many VMs that were started one by one from one file and have
 * each read all of it: `foal run` as a user starts it, with the bench's guest as
 * kernel and the file as pmem.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/bench.h"
#include "vmm/bench_vm.h"
#include "vmm/helper.h"

#define PATIENCE_MS 120000
#define MAX_WORDS   32

/* The guest's ELF file with its job in it, in memory, kept over exec. */
static int make_kernel(uint32_t touches)
{
	const struct bench_job job = {
	    .cpus = 1, .serial = 1, .touches = touches, .base = BENCH_GPA};
	int fd = memfd_create("bench-guest", 0);
	char *elf = malloc(bench_guest_size());
	bool done = false;

	if (fd >= 0 && elf) {
		bench_guest_copy(elf, &job);
		done = write(fd, elf, bench_guest_size()) == (ssize_t)bench_guest_size();
	}
	free(elf);
	if (!done && fd >= 0)
		close(fd);
	return done ? fd : -1;
}

struct many {
	pid_t pid[BENCH_MANY];
	int console[BENCH_MANY];
	size_t count;
};

static bool says_ready(int console)
{
	struct pollfd fd = {.fd = console, .events = POLLIN};
	char text[256];
	size_t length = 0;

	while (length < sizeof(text) - 1 && poll(&fd, 1, PATIENCE_MS) == 1) {
		ssize_t n = read(console, text + length, sizeof(text) - 1 - length);
		if (n <= 0)
			return false;
		length += (size_t)n;
		text[length] = 0;
		if (strstr(text, "ready"))
			return true;
	}
	return false;
}

/* The guests are as small as they can be: what they have of memory is the file. */
static bool start_all(struct many *many, size_t count, const struct bench_sample *sample,
		      int kernel)
{
	char kernel_path[64], pmem[64], words[256], *save;
	char *argv[MAX_WORDS] = {"foal", "run",	     "--kernel", kernel_path, "--pmem",
				 pmem,	 "--memory", "16M",	 "--stats",   "off"};
	size_t argc = 10;

	snprintf(kernel_path, sizeof(kernel_path), "/proc/self/fd/%d", kernel);
	snprintf(pmem, sizeof(pmem), "/proc/self/fd/%d,mode=cow", sample->file);
	snprintf(words, sizeof(words), "%s", sample->c->options);
	for (char *word = strtok_r(words, " ", &save); word && argc < MAX_WORDS - 1;
	     word = strtok_r(NULL, " ", &save))
		argv[argc++] = word;
	for (; many->count < count; many->count++) {
		size_t i = many->count;
		many->pid[i] = helper_self(argv, &many->console[i]);
		if (many->pid[i] < 0)
			return false;
	}
	for (size_t i = 0; i < count; i++) {
		if (!says_ready(many->console[i]))
			return false;
		kill(many->pid[i], SIGSTOP);
	}
	return true;
}

void bench_many_run(const struct bench_sample *sample, struct bench_result *result)
{
	size_t count = sample->ours ? BENCH_MANY : 1;
	size_t pages = (size_t)sample->c->mib << 8;
	size_t touches = sample->limit && sample->limit < pages ? sample->limit : pages;
	int kernel = make_kernel((uint32_t)touches);
	struct many many = {0};

	*result = (struct bench_result){.touches = touches, .pages = touches};
	if (kernel >= 0 && bench_file_warm(sample->file) == 0 &&
	    start_all(&many, count, sample, kernel))
		result->value[BENCH_MEMORY] =
		    (double)bench_host_memory(many.pid, count, sample->file) / (1 << 20);
	for (size_t i = 0; i < many.count; i++) {
		kill(many.pid[i], SIGKILL);
		waitpid(many.pid[i], NULL, 0);
		close(many.console[i]);
	}
	if (kernel >= 0)
		close(kernel);
	if (result->value[BENCH_MEMORY] <= 0) {
		result->status = FOAL_EXIT_HOST;
		snprintf(result->why, sizeof(result->why),
			 "a VM did not get as far as reading the file");
	}
}
