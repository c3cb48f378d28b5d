/* The files of a test: made in one directory, which goes when the program ends. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "tests/kvm/guests/lib/pattern.h"
#include "tests/kvm/runner.h"

#define PAGE 4096u

static char directory[40];

void scratch_create(void)
{
	char run_dir[sizeof(directory) + 8];
	const char *tmp = getenv("TMPDIR");
	int n = snprintf(directory, sizeof(directory), "%s/foal-kvm-XXXXXX", tmp ? tmp : "/tmp");

	if (n < 0 || (size_t)n >= sizeof(directory) || !mkdtemp(directory)) {
		perror("a directory for the tests' files");
		exit(1);
	}
	chmod(directory, 0755); /* for the tests that run foal as another user */
	snprintf(run_dir, sizeof(run_dir), "%s/run", directory);
	setenv("FOAL_RUN_DIR", run_dir, 1);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

void scratch_remove(void)
{
	nftw(directory, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

/* Paths live as long as the test's process: nobody has to think of when they end. */
static const char *keep(const char *path)
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

	int n = snprintf(path, sizeof(path), "%s/", directory);
	va_start(args, format);
	vsnprintf(path + n, sizeof(path) - (size_t)n, format, args);
	va_end(args);
	return keep(path);
}

static const char *under(const char *variable, const char *fallback, const char *name)
{
	const char *from = getenv(variable);
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", from ? from : fallback, name);
	return keep(path);
}

const char *foal_path(void)
{
	const char *path = getenv("FOAL");

	return path ? path : "build/foal";
}

const char *guest_path(const char *name)
{
	return under("GUESTS", "build/tests/guests", name);
}

const char *image_path(const char *name)
{
	return under("GUEST_IMAGES", "build/guest", name);
}

void write_file(const char *path, const void *data, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	ck_assert_msg(fd >= 0, "%s: %s", path, strerror(errno));
	for (size_t at = 0; at < len;) {
		ssize_t n = write(fd, (const char *)data + at, len - at);
		ck_assert_msg(n > 0, "write %s: %s", path, strerror(errno));
		at += (size_t)n;
	}
	close(fd);
}

void *read_file(const char *path, size_t *len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	ck_assert_msg(fd >= 0 && !fstat(fd, &st), "%s: %s", path, strerror(errno));
	*len = (size_t)st.st_size;
	char *data = malloc(*len + 1);
	ck_assert_ptr_nonnull(data);
	for (size_t at = 0; at < *len;) {
		ssize_t n = read(fd, data + at, *len - at);
		ck_assert_msg(n > 0, "read %s: %s", path, strerror(errno));
		at += (size_t)n;
	}
	data[*len] = 0;
	close(fd);
	return data;
}

const char *make_pmem(const char *name, unsigned pages)
{
	const char *path = scratch("%s", name);
	char *data = calloc(pages, PAGE);

	ck_assert_ptr_nonnull(data);
	for (unsigned n = 0; n < pages; n++) {
		uint64_t word = FILE_PATTERN(n);
		memcpy(data + (size_t)n * PAGE, &word, sizeof(word));
	}
	write_file(path, data, (size_t)pages * PAGE);
	free(data);
	return path;
}

const char *copy_file(const char *from, const char *name)
{
	const char *path = scratch("%s", name);
	size_t len;
	void *data = read_file(from, &len);

	write_file(path, data, len);
	free(data);
	return path;
}

bool same_files(const char *a, const char *b)
{
	size_t a_len, b_len;
	void *a_data = read_file(a, &a_len), *b_data = read_file(b, &b_len);
	bool same = a_len == b_len && memcmp(a_data, b_data, a_len) == 0;

	free(a_data);
	free(b_data);
	return same;
}

uint64_t page_word(const char *path, unsigned page)
{
	uint64_t word;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	ck_assert_int_eq(pread(fd, &word, sizeof(word), (off_t)page * PAGE), sizeof(word));
	close(fd);
	return word;
}

void skip(const char *why)
{
	printf("SKIP %s\n", why);
	fflush(stdout);
	_exit(0); /* Check runs each test in a process of its own */
}

bool is_root(void)
{
	return geteuid() == 0;
}

bool have_userfaultfd(void)
{
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);

	if (fd < 0)
		fd = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

bool linux_at_least(int major, int minor)
{
	struct utsname host;
	int has_major = 0, has_minor = 0;

	uname(&host);
	sscanf(host.release, "%d.%d", &has_major, &has_minor);
	return has_major > major || (has_major == major && has_minor >= minor);
}
