#include "tests/scratch.h"

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Short enough for a socket below it, whose address has 108 bytes. */
#define ROOT_MAX 40

static char root[ROOT_MAX];
/* Of the process group @group: Check makes each test one of its own. */
static char own[ROOT_MAX + 8];
static pid_t group, owner;

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

static void remove_all(const char *path)
{
	nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

void scratch_begin(void)
{
	const char *tmp = getenv("TMPDIR");
	int n = snprintf(root, sizeof(root), "%s/foal-test-XXXXXX", tmp ? tmp : "/tmp");

	/* 0755: for tests that run foal as another user. */
	if (n < 0 || (size_t)n >= sizeof(root) || !mkdtemp(root) || chmod(root, 0755)) {
		perror("a directory for the tests' files");
		exit(1);
	}
}

void scratch_end(void)
{
	remove_all(root);
}

void scratch_each(void (*visit)(const char *directory))
{
	char path[sizeof(own) + NAME_MAX];
	DIR *dir = opendir(root);

	ck_assert_ptr_nonnull(dir);
	for (struct dirent *e; (e = readdir(dir));) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", root, e->d_name);
		visit(path);
	}
	closedir(dir);
}

/* At the end of a test that passed; not of a child of it, which may end before. */
static void remove_own(void)
{
	if (getpid() == owner)
		remove_all(own);
}

static void make_own(void)
{
	bool first = !group;

	if (group == getpgrp())
		return;
	group = getpgrp();
	owner = getpid();
	snprintf(own, sizeof(own), "%s/XXXXXX", root);
	ck_assert_msg(mkdtemp(own) && !chmod(own, 0755), "%s: %s", own, strerror(errno));
	if (first)
		atexit(remove_own);
}

const char *scratch_keep(const char *path)
{
	static struct kept {
		struct kept *next;
		char path[];
	} * all;
	size_t size = strlen(path) + 1;
	struct kept *k = malloc(sizeof(*k) + size);

	ck_assert_ptr_nonnull(k);
	memcpy(k->path, path, size);
	k->next = all;
	all = k;
	return k->path;
}

const char *scratch(const char *format, ...)
{
	char path[PATH_MAX];
	va_list args;
	int n;

	make_own();
	n = snprintf(path, sizeof(path), "%s/", own);
	va_start(args, format);
	vsnprintf(path + n, sizeof(path) - (size_t)n, format, args);
	va_end(args);
	return scratch_keep(path);
}

int scratch_file(void)
{
	char path[sizeof(own) + 8];
	int fd;

	make_own();
	snprintf(path, sizeof(path), "%s/XXXXXX", own);
	fd = mkostemp(path, O_CLOEXEC);
	ck_assert_msg(fd >= 0, "%s: %s", path, strerror(errno));
	unlink(path);
	return fd;
}
