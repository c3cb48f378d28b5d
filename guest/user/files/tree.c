/* The tree a run left, sorted, so that two kernels print the same. */
#include "guest/user/files/files.h"

enum { NAMES_MAX = 16, NAME_SIZE = 64 };

struct names {
	unsigned count;
	char name[NAMES_MAX][NAME_SIZE];
};

static void add_name(struct names *names, const char *name)
{
	unsigned at = names->count++;

	for (; at && strcmp(names->name[at - 1], name) > 0; at--)
		memcpy(names->name[at], names->name[at - 1], NAME_SIZE);
	memcpy(names->name[at], name, strlen(name) + 1);
}

static bool is_dots(const char *name)
{
	return !strcmp(name, ".") || !strcmp(name, "..");
}

static void read_names(const char *path, struct names *names)
{
	int fd = sys_open(path, O_RDONLY);
	char buf[512];
	long got;

	names->count = 0;
	while ((got = syscall3(SYS_GETDENTS64, fd, (long)buf, sizeof(buf))) > 0) {
		for (long at = 0; at < got; at += *(uint16_t *)(buf + at + 16)) {
			const char *name = buf + at + 19;

			if (!is_dots(name) && names->count < NAMES_MAX && strlen(name) < NAME_SIZE)
				add_name(names, name);
		}
	}
	sys_close(fd);
}

static uint64_t sum_of_file(const char *path)
{
	static uint8_t buf[PAGE_SIZE];
	int fd = sys_open(path, O_RDONLY);
	long got;

	sum = 1;
	while ((got = sys_read(fd, buf, sizeof(buf))) > 0) {
		/* Files are sparse: zeroes by their number. */
		uint8_t any = 0;

		for (long i = 0; i < got; i++)
			any |= buf[i];
		if (any)
			note_bytes(buf, (size_t)got);
		else
			note(got);
	}
	note(got);
	sys_close(fd);
	return sum;
}

static void print_one(const char *path)
{
	struct file_stat st;
	char target[64];

	if (syscall4(SYS_NEWFSTATAT, -100, (long)path, (long)&st, 0x100)) {
		print("%s: gone\n", path);
		return;
	}
	switch (st.mode >> 12) {
	case 4:
		print("%s: directory %x\n", path, st.mode);
		print_tree(path);
		break;
	case 10:
		target[syscall3(SYS_READLINK, (long)path, (long)target, 63)] = 0;
		print("%s: link to %s, %lu names\n", path, target, st.nlink);
		break;
	default:
		print("%s: %x %lu names %ld bytes %016lx\n", path, st.mode, st.nlink, st.size,
		      sum_of_file(path));
	}
}

void print_tree(const char *path)
{
	struct names names;
	char below[512];

	read_names(path, &names);
	for (unsigned i = 0; i < names.count; i++) {
		format(below, sizeof(below), "%s/%s", path, names.name[i]);
		print_one(below);
	}
}
