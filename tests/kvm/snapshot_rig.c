#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/kvm/snapshot_rig.h"

unsigned times(const char *variable, unsigned usual)
{
	const char *said = getenv(variable);

	if (said)
		return (unsigned)strtoul(said, NULL, 10);
	return rounds_here(usual);
}

static unsigned x = 2463534242;

void random_from(unsigned seed)
{
	x = seed ? seed : 1;
}

unsigned random_below(unsigned n)
{
	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	return x % n;
}

void some_moment(unsigned most_us)
{
	usleep(random_below(most_us));
}

void snapshot(const char *name, const char *dir)
{
	expect_command(ARGS("snapshot", name, dir), 0, "the guest was paused for");
}

static uint64_t memory_of(int fd)
{
	json_t *reply = control_ask(fd, "{\"command\":\"stat\"}");
	json_t *resident = json_object_get(json_object_get(reply, "stats"), "resident");
	uint64_t bytes = (uint64_t)json_integer_value(json_object_get(resident, "guest"));

	json_decref(reply);
	return bytes;
}

void wait_for_memory(const char *name, uint64_t bytes)
{
	int fd = control_connect(name);

	while (memory_of(fd) < bytes)
		usleep(1000);
	close(fd);
}

static bool counts_all(int fd)
{
	json_t *reply = control_ask(fd, "{\"command\":\"stat\"}");
	const json_t *books = json_object_get(json_object_get(reply, "stats"), "reconciliation");
	const json_t *flight = json_object_get(json_object_get(books, "cases"), "in_flight");

	ck_assert(json_is_integer(flight));
	bool all = json_integer_value(flight) == 0;
	json_decref(reply);
	return all;
}

void wait_for_counts(const char *name)
{
	int fd = control_connect(name);

	while (!counts_all(fd))
		usleep(1000);
	close(fd);
}

bool exists(const char *path)
{
	return access(path, F_OK) == 0;
}

unsigned leftovers(const char *dir)
{
	char command[512];
	FILE *f;
	unsigned n = 0;

	snprintf(command, sizeof(command), "ls -d %s.tmp-* 2>/dev/null | wc -l", dir);
	f = popen(command, "r");
	ck_assert(f && fscanf(f, "%u", &n) == 1);
	pclose(f);
	return n;
}

unsigned descriptors_of(pid_t pid)
{
	char path[64];
	unsigned n = 0;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	DIR *list = opendir(path);
	ck_assert_ptr_nonnull(list);
	while (readdir(list))
		n++;
	closedir(list);
	return n;
}

void descriptors_fall(pid_t pid, unsigned most)
{
	while (descriptors_of(pid) > most)
		usleep(1000);
}

pid_t child_of(pid_t pid)
{
	char command[160];
	int child = 0;
	FILE *f;

	snprintf(command, sizeof(command), "cat /proc/%d/task/*/children 2>/dev/null", (int)pid);
	f = popen(command, "r");
	if (!f || fscanf(f, "%d", &child) != 1)
		child = 0;
	if (f)
		pclose(f);
	return child;
}
