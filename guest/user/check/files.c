/* Files beside their contents: truncated under mappings, descriptors across fork and exec, pipes.
 */
#include "guest/user/check/check.h"

enum {
	SYS_DUP2 = 33,
	SYS_FCNTL = 72,
	SYS_FTRUNCATE = 77,
	SYS_UNLINK = 87,
	SYS_MKNOD = 133,
	SYS_PIPE2 = 293,
	O_WRONLY = 1,
	O_CREAT = 0100,
	O_CLOEXEC = 02000000,
	F_GETFD = 1,
	SIGPIPE = 13,
};

static int fresh_file(const char *path, unsigned pages)
{
	static uint8_t page[PAGE_SIZE];
	int fd = (int)syscall3(SYS_OPEN, (long)path, O_RDWR | O_CREAT, 0600);

	memset(page, 'x', sizeof(page));
	for (unsigned i = 0; i < pages; i++) {
		if (sys_write(fd, page, sizeof(page)) != sizeof(page))
			return -1;
	}
	/* Open, it lives on. */
	syscall3(SYS_UNLINK, (long)path, 0, 0);
	return fd;
}

/* Pages behind the new end go from both mappings, the private copy too. */
static int truncate_mapped(void)
{
	int fd = fresh_file("/tmp/mapped", 2);
	long shared = sys_mmap(NULL, 2 * PAGE_SIZE, RW, MAP_SHARED, fd, 0);
	long own = sys_mmap(NULL, 2 * PAGE_SIZE, RW, MAP_PRIVATE, fd, 0);
	volatile uint8_t *s = (volatile uint8_t *)shared, *p = (volatile uint8_t *)own;

	EXPECT(fd >= 0 && shared > 0 && own > 0);
	s[0] = s[PAGE_SIZE] = 's';
	p[PAGE_SIZE] = 'p';
	EXPECT(!syscall3(SYS_FTRUNCATE, fd, 100, 0));
	EXPECT(s[0] == 's' && s[99] == 'x' && s[100] == 0);
	EXPECT(!syscall3(SYS_FTRUNCATE, fd, 2 * PAGE_SIZE, 0));
	EXPECT(s[PAGE_SIZE] == 0 && p[PAGE_SIZE] == 0);
	EXPECT(!syscall3(SYS_FTRUNCATE, fd, 1, 0));
	return p[PAGE_SIZE]; /* must not return */
}

/* A hole is written through a mapping: it gets a block. */
static int write_hole_mapped(void)
{
	int fd = fresh_file("/tmp/hole", 0);
	uint8_t byte = 0;

	EXPECT(fd >= 0 && !syscall3(SYS_FTRUNCATE, fd, 64 * PAGE_SIZE, 0));
	long p = sys_mmap(NULL, 64 * PAGE_SIZE, RW, MAP_SHARED, fd, 0);
	EXPECT(p > 0);
	((volatile uint8_t *)p)[50 * PAGE_SIZE + 3] = 9;
	EXPECT(!syscall3(SYS_FSYNC, fd, 0, 0));
	EXPECT(sys_pread(fd, &byte, 1, 50 * PAGE_SIZE + 3) == 1 && byte == 9);
	EXPECT(sys_pread(fd, &byte, 1, 49 * PAGE_SIZE) == 1 && byte == 0);
	return 0;
}

/* The offset belongs to the open file, which parent and child share. */
static int offset_shared(void)
{
	int fd = fresh_file("/tmp/offset", 1), status = -1;
	char c;

	int pid = sys_fork();
	if (!pid)
		sys_exit(syscall3(8 /* lseek */, fd, 100, 0) != 100);
	EXPECT(sys_wait4(pid, &status) == pid && !status);
	EXPECT(syscall3(8, fd, 0, 1) == 100);
	EXPECT(sys_read(fd, &c, 1) == 1 && c == 'x');
	return 0;
}

/* A reader that waits is woken by bytes, and by the last writer's end. */
static int pipe_waits(void)
{
	static char big[3 * 65536];
	int ends[2], status = -1;
	size_t got = 0;
	long n;

	EXPECT(!syscall3(SYS_PIPE2, (long)ends, 0, 0));
	int pid = sys_fork();
	if (!pid) {
		sys_close(ends[0]);
		/* More than fits: the writer waits, too. */
		sys_exit(sys_write(ends[1], big, sizeof(big)) != sizeof(big));
	}
	sys_close(ends[1]);
	while ((n = sys_read(ends[0], big, 10000)) > 0)
		got += (size_t)n;
	EXPECT(!n && got == sizeof(big));
	EXPECT(sys_wait4(pid, &status) == pid && !status);
	return 0;
}

static int fifo_meets(void)
{
	char c = 0;
	int status = -1;

	EXPECT(!syscall3(SYS_MKNOD, (long)"/tmp/fifo", 0010600, 0));
	int pid = sys_fork();
	if (!pid) {
		int fd = sys_open("/tmp/fifo", O_WRONLY);

		sys_exit(sys_write(fd, "f", 1) != 1);
	}
	int fd = sys_open("/tmp/fifo", O_RDONLY);
	EXPECT(fd >= 0 && sys_read(fd, &c, 1) == 1 && c == 'f');
	EXPECT(sys_wait4(pid, &status) == pid && !status);
	EXPECT(!syscall3(SYS_UNLINK, (long)"/tmp/fifo", 0, 0));
	return 0;
}

static int pipe_broken(void)
{
	int ends[2];

	EXPECT(!syscall3(SYS_PIPE2, (long)ends, 0, 0));
	sys_close(ends[0]);
	return (int)sys_write(ends[1], "x", 1); /* must not return */
}

/* Of the descriptor, not of the open file. */
static int cloexec(void)
{
	int fd = (int)syscall3(SYS_OPEN, (long)FILE_PATH, O_RDONLY | O_CLOEXEC, 0);

	EXPECT(fd >= 0 && syscall3(SYS_FCNTL, fd, F_GETFD, 0) == 1);
	EXPECT(syscall3(SYS_DUP2, fd, 40, 0) == 40 && syscall3(SYS_FCNTL, 40, F_GETFD, 0) == 0);
	return 0;
}

static bool file_has(const char *path, const char *word)
{
	static char text[8192];
	int fd = sys_open(path, O_RDONLY);
	long len = sys_read(fd, text, sizeof(text));
	long word_len = (long)strlen(word);

	sys_close(fd);
	for (long i = 0; i + word_len <= len; i++) {
		if (!memcmp(text + i, word, (size_t)word_len))
			return true;
	}
	return false;
}

static int proc_says(void)
{
	char own[32];

	format(own, sizeof(own), "%d (check) R ", (int)syscall3(SYS_GETPID, 0, 0, 0));
	EXPECT(file_has("/proc/self/stat", own));
	EXPECT(file_has("/proc/self/maps", "[stack]\n"));
	EXPECT(file_has("/proc/self/maps", " r-xp "));
	EXPECT(file_has("/proc/self/status", "Name:\tcheck\n"));
	EXPECT(file_has("/proc/meminfo", "MemFree: "));
	EXPECT(file_has("/proc/mounts", " / "));
	EXPECT(sys_open("/proc/0", O_RDONLY) == -ENOENT);
	return 0;
}

const struct check file_checks[] = {
    {"truncate_mapped", truncate_mapped, SIGBUS},
    {"write_hole_mapped", write_hole_mapped, 0},
    {"offset_shared", offset_shared, 0},
    {"pipe_waits", pipe_waits, 0},
    {"fifo_meets", fifo_meets, 0},
    {"pipe_broken", pipe_broken, SIGPIPE},
    {"cloexec", cloexec, 0},
    {"proc_says", proc_says, 0},
    {0},
};
