/* What tests read and write on the host, and what the host lets them do. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
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

static const char *under(const char *variable, const char *fallback, const char *name)
{
	const char *from = getenv(variable);
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", from ? from : fallback, name);
	return scratch_keep(path);
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

const char *make_random_pmem(const char *name, unsigned pages)
{
	const char *path = scratch("%s", name);
	char *data = malloc(pages * PAGE);
	uint64_t random = 1;

	ck_assert_ptr_nonnull(data);
	for (size_t i = 0; i < pages * PAGE; i += sizeof(random)) {
		uint64_t page = i / PAGE, word;

		random = random * 6364136223846793005UL + 1442695040888963407UL;
		word = i % PAGE ? random ^ random >> 29 : FILE_PATTERN(page);
		memcpy(data + i, &word, sizeof(word));
	}
	write_file(path, data, pages * PAGE);
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
