/* The calls, with random arguments. Paths and descriptors are few, so that they meet. */
#include "guest/user/files/files.h"

enum {
	SLOTS = 5,
	DATA_MAX = 3 * PAGE_SIZE,
	O_CREAT = 0100,
	O_EXCL = 0200,
	O_TRUNC = 01000,
	O_APPEND = 02000,
	O_NONBLOCK = 04000,
	O_DIRECTORY = 0200000,
	AT_NOFOLLOW = 0x100,
	AT_CWD = -100,
};

static int slots[SLOTS]; /* descriptors + 1; 0: none */
static uint8_t data[DATA_MAX];

static const char *random_path(char path[64])
{
	static const char *const names[] = {"a", "b", "c", "dd", "a-name-that-is-longer"};
	unsigned depth = 1 + roll(2);

	path[0] = 0;
	for (unsigned i = 0; i < depth; i++)
		format(path + strlen(path), 64 - strlen(path), "%s%s", i ? "/" : "",
		       names[roll(5)]);
	return path;
}

static int random_fd(void)
{
	return slots[roll(SLOTS)] - 1;
}

static size_t random_data(void)
{
	size_t len = roll(2) ? roll(100) : roll(DATA_MAX);

	memset(data, (int)(1 + roll(255)), len);
	return len;
}

static long random_offset(void)
{
	static const long starts[] = {0, 4000, 60000, 5000000};

	return starts[roll(4)] + roll(10000);
}

static long call_open(void)
{
	static const int flags[] = {O_RDONLY,
				    O_RDWR | O_CREAT,
				    O_RDWR | O_CREAT | O_EXCL,
				    O_RDWR | O_CREAT | O_TRUNC,
				    O_RDWR | O_CREAT | O_APPEND,
				    O_RDONLY | O_DIRECTORY};
	int *slot = &slots[roll(SLOTS)];
	char path[64];
	long fd = syscall3(SYS_OPEN, (long)random_path(path), flags[roll(6)] | O_NONBLOCK, 0644);

	if (fd < 0)
		return fd;
	if (*slot)
		sys_close(*slot - 1);
	*slot = (int)fd + 1;
	return 0;
}

static long call_write(void)
{
	size_t len = random_data();

	return sys_write(random_fd(), data, len);
}

static long call_pwrite(void)
{
	size_t len = random_data();

	return syscall4(SYS_PWRITE64, random_fd(), (long)data, (long)len, random_offset());
}

static long call_writev(void)
{
	struct {
		void *base;
		size_t len;
	} v[3] = {{data, random_data() / 2}, {data, 0}, {data + 5, roll(50)}};

	return syscall3(SYS_WRITEV, random_fd(), (long)v, 3);
}

static long noted_read(long got)
{
	if (got > 0)
		note_bytes(data, (size_t)got);
	return got;
}

static long call_read(void)
{
	return noted_read(sys_read(random_fd(), data, roll(3000)));
}

static long call_pread(void)
{
	return noted_read(sys_pread(random_fd(), data, roll(3000), (uint64_t)random_offset()));
}

static long call_lseek(void)
{
	int fd = random_fd();
	struct file_stat st;

	/* Where a directory ends is the filesystem's own business. */
	if (fd < 0 || syscall3(SYS_FSTAT, fd, (long)&st, 0) || (st.mode & 0170000) != 0100000)
		return 0;
	return syscall3(SYS_LSEEK, fd, random_offset(), roll(3));
}

static long call_ftruncate(void)
{
	return syscall3(SYS_FTRUNCATE, random_fd(), random_offset(), 0);
}

static long call_truncate(void)
{
	char path[64];

	return syscall3(SYS_TRUNCATE, (long)random_path(path), random_offset(), 0);
}

/* Changes a byte through a mapping, shared or private, and looks at what the file has then. */
static long call_mmap(void)
{
	int fd = random_fd(), type = roll(2) ? MAP_SHARED : MAP_PRIVATE;
	struct file_stat st;

	if (fd < 0 || syscall3(SYS_FSTAT, fd, (long)&st, 0) || !st.size ||
	    (st.mode & 0170000) != 0100000)
		return 0;
	uint64_t at = roll((unsigned)st.size);
	long p = sys_mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, type, fd,
			  at & ~(uint64_t)(PAGE_SIZE - 1));
	if (p < 0)
		return p;
	volatile uint8_t *byte = (volatile uint8_t *)p + at % PAGE_SIZE;
	note(*byte);
	*byte = (uint8_t) ~*byte;
	sys_munmap((void *)p, PAGE_SIZE);
	return noted_read(sys_pread(fd, data, 1, at));
}

static long call_one_path(void)
{
	static const int calls[] = {SYS_UNLINK, SYS_RMDIR, SYS_MKDIR, SYS_MKDIR};
	char path[64];

	return syscall3(calls[roll(4)], (long)random_path(path), 0755, 0);
}

static long call_two_paths(void)
{
	static const int calls[] = {SYS_RENAME, SYS_LINK, SYS_SYMLINK};
	char path[64], other[64];

	random_path(path);
	return syscall3(calls[roll(3)], (long)path, (long)random_path(other), 0);
}

static long call_readlink(void)
{
	char path[64];

	return noted_read(syscall3(SYS_READLINK, (long)random_path(path), (long)data, 40));
}

static long call_mode(void)
{
	char path[64];

	random_path(path);
	return roll(2) ? syscall3(SYS_CHMOD, (long)path, 0600 | roll(0200), 0)
		       : syscall3(SYS_ACCESS, (long)path, roll(8), 0);
}

static long call_stat(void)
{
	struct file_stat st;
	char path[64];
	long err = syscall4(SYS_NEWFSTATAT, AT_CWD, (long)random_path(path), (long)&st,
			    roll(2) ? AT_NOFOLLOW : 0);

	if (!err && (st.mode & 0170000) != 0040000) {
		note(st.mode);
		note((long)st.nlink);
		note(st.size);
	}
	return err;
}

static long call_dup(void)
{
	unsigned from = roll(SLOTS), to = roll(SLOTS);

	if (!slots[from] || !slots[to])
		return 0;
	return syscall3(SYS_DUP2, slots[from] - 1, slots[to] - 1, 0) == slots[to] - 1;
}

static long call_fsync(void)
{
	return syscall3(SYS_FSYNC, random_fd(), 0, 0);
}

/* Both ends, less than fits (Linux counts pages there), and what poll says before and after. */
static long call_pipe(void)
{
	struct {
		int fd;
		short events, revents;
	} poll[2];
	int ends[2];
	long done = 0, n;

	if (syscall3(SYS_PIPE2, (long)ends, O_NONBLOCK, 0))
		return -1;
	memset(data, 7, sizeof(data));
	for (unsigned left = 1 + roll(3); left; left--) {
		n = sys_write(ends[1], data, 1 + roll(DATA_MAX - 1));
		note(n < 0 ? n : 0);
		done += n > 0 ? n : 0;
	}
	poll[0].fd = ends[0], poll[1].fd = ends[1];
	poll[0].events = poll[1].events = 5;
	note(syscall3(SYS_POLL, (long)poll, 2, 0));
	note(poll[0].revents);
	for (; (n = sys_read(ends[0], data, DATA_MAX)) > 0; done -= n)
		;
	note(n);
	sys_close(ends[1]);
	note(sys_read(ends[0], data, 1));
	note(syscall3(SYS_POLL, (long)poll, 1, 0));
	note(poll[0].revents);
	sys_close(ends[0]);
	return done;
}

static const struct {
	const char *name;
	long (*fn)(void);
} calls[] = {
    {"open", call_open},	   {"open", call_open},		{"open", call_open},
    {"write", call_write},	   {"pwrite", call_pwrite},	{"writev", call_writev},
    {"read", call_read},	   {"pread", call_pread},	{"lseek", call_lseek},
    {"ftruncate", call_ftruncate}, {"truncate", call_truncate}, {"mmap", call_mmap},
    {"path", call_one_path},	   {"path", call_one_path},	{"paths", call_two_paths},
    {"paths", call_two_paths},	   {"readlink", call_readlink}, {"mode", call_mode},
    {"stat", call_stat},	   {"dup", call_dup},		{"fsync", call_fsync},
    {"pipe", call_pipe},
};

long one_call(const char **name)
{
	unsigned i = roll(sizeof(calls) / sizeof(calls[0]));

	*name = calls[i].name;
	return calls[i].fn();
}

void close_all(void)
{
	for (unsigned i = 0; i < SLOTS; i++) {
		if (slots[i])
			sys_close(slots[i] - 1);
	}
}
