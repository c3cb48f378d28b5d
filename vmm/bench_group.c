/* A memory cgroup of the bench's own: what those in it take is limited, or counted. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/bench.h"
#include "vmm/vm.h"

/* What was killed leaves its group when it is gone altogether. */
#define GONE_NS	 10000000000ULL
#define RETRY_MS 10

static int put(const char *dir, const char *file, const char *text)
{
	char path[4400];
	int fd, r = 0;

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		r = -errno;
	close(fd);
	return r;
}

/*
 * A group below @parent with the limit set (0: none), by the names of cgroup v2 or v1. Under v1
 * reclaim does not wait for pages that are on their way to the disk, and a process that is
 * alone in a small group is soon killed; so there it is not, and what fails is tried again.
 */
static bool make_group(char group[BENCH_GROUP_PATH], const char *parent, uint64_t limit)
{
	static const char *const files[] = {"memory.max", "memory.limit_in_bytes"};
	char text[24] = "max";

	if (limit)
		snprintf(text, sizeof(text), "%llu", (unsigned long long)limit);
	snprintf(group, BENCH_GROUP_PATH, "%s/foal-bench-%d", parent, (int)getpid());
	if (mkdir(group, 0755) == 0) {
		for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
			if (put(group, files[i], limit || i == 0 ? text : "-1") == 0) {
				if (limit)
					put(group, "memory.oom_control", "1");
				return true;
			}
		rmdir(group);
	}
	group[0] = 0;
	return false;
}

/* Below this process's own group, or beside it: v2 lets no group with processes have both. */
bool bench_group_make(char group[BENCH_GROUP_PATH], uint64_t limit)
{
	FILE *f = fopen("/proc/self/cgroup", "re");
	char line[2048], parent[4096];
	bool found = false;

	while (f && !found && fgets(line, sizeof(line), f)) {
		char *path = strstr(line, ":/");
		bool v1 = strstr(line, ":memory:") != NULL, v2 = strncmp(line, "0::", 3) == 0;
		if (!path || !(v1 || v2))
			continue;
		path[strcspn(path, "\n")] = 0;
		snprintf(parent, sizeof(parent), "/sys/fs/cgroup%s%s", v1 ? "/memory" : "",
			 path + 1);
		found = make_group(group, parent, limit);
		char *last = strrchr(parent, '/');
		if (!found && last > parent + strlen("/sys/fs/cgroup")) {
			*last = 0;
			found = make_group(group, parent, limit);
		}
	}
	if (f)
		fclose(f);
	return found;
}

int bench_group_enter(const char *group, pid_t pid)
{
	char text[24];

	snprintf(text, sizeof(text), "%d", (int)pid);
	return put(group, "cgroup.procs", text);
}

double bench_group_mib(const char *group)
{
	static const char *const files[] = {"memory.current", "memory.usage_in_bytes"};
	unsigned long long bytes = 0;
	char path[BENCH_GROUP_PATH + 32], text[32];
	FILE *f = NULL;

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]) && !f; i++) {
		snprintf(path, sizeof(path), "%s/%s", group, files[i]);
		f = fopen(path, "re");
	}
	if (f && fgets(text, sizeof(text), f))
		bytes = strtoull(text, NULL, 10);
	if (f)
		fclose(f);
	return (double)bytes / (1 << 20);
}

void bench_group_remove(char group[BENCH_GROUP_PATH])
{
	uint64_t until = now_ns() + GONE_NS;

	while (group[0] && rmdir(group) && errno == EBUSY && now_ns() < until)
		poll(NULL, 0, RETRY_MS);
	group[0] = 0;
}
