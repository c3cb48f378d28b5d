/*
 * Programs of which a kernel's fault path shows in counts, contents, signals and errors: what they
 * say on Linux any kernel has to say.
 *
 *   oracle DIR [disk] [huge]      DIR: for files; disk: it is on a disk; huge: of 2 MiB pages, too
 *
 * Counts are defined under conditions that it makes itself: one thread, regions at multiples of
 * 2 MiB that ask for no huge pages, a file written in single pages, and all that runs in a
 * bracket touched before. Not its own to make: no swap, no page merging, no NUMA balancing.
 */
#include "oracle.h"

#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *dir;

struct faults faults(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (struct faults){usage.ru_minflt, usage.ru_majflt};
}

void tell(const char *what, struct faults before)
{
	struct faults now = faults();

	printf("%s: %ld minor, %ld major\n", what, now.minor - before.minor,
	       now.major - before.major);
	fflush(stdout);
}

void say(const char *what, long value)
{
	printf("%s: %ld\n", what, value);
	fflush(stdout);
}

void must(bool works, const char *what)
{
	if (works)
		return;
	printf("oracle: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* --- itself ------------------------------------------------------------------------------ */

static bool within(uintptr_t at, const ElfW(Phdr) * ph)
{
	return at >= ph->p_vaddr && at < ph->p_vaddr + ph->p_memsz;
}

static void touch_segment(uintptr_t base, const ElfW(Phdr) * ph, const ElfW(Phdr) * read_only)
{
	for (uintptr_t at = ph->p_vaddr & -PAGE; at < ph->p_vaddr + ph->p_memsz; at += PAGE) {
		uintptr_t in = at < ph->p_vaddr ? ph->p_vaddr : at;
		volatile char *p = (volatile char *)(base + in); /* NOLINT(*-int-to-ptr) */
		char value = *p;

		if ((ph->p_flags & PF_W) && !(read_only && within(in, read_only)))
			*p = value;
	}
}

static int touch_program(struct dl_phdr_info *info, size_t size, void *arg)
{
	const ElfW(Phdr) *read_only = NULL;

	(void)size;
	(void)arg;
	for (int i = 0; i < info->dlpi_phnum; i++)
		if (info->dlpi_phdr[i].p_type == PT_GNU_RELRO)
			read_only = &info->dlpi_phdr[i];
	for (int i = 0; i < info->dlpi_phnum; i++)
		if (info->dlpi_phdr[i].p_type == PT_LOAD)
			touch_segment(info->dlpi_addr, &info->dlpi_phdr[i], read_only);
	return 0;
}

void touch_self(void)
{
	volatile char room[8 * PAGE];

	write_pages(room, 8, 0);
	dl_iterate_phdr(touch_program, NULL);
}

void in_child(const char *what, void (*run)(void))
{
	int status = -1;
	pid_t pid = fork();

	if (!pid) {
		touch_self();
		run();
		fflush(stdout);
		_exit(0);
	}
	must(pid > 0 && waitpid(pid, &status, 0) == pid, "a child");
	touch_self();
	printf("%s: wait status %x\n", what, (unsigned)status);
	fflush(stdout);
}

/* --- memory ------------------------------------------------------------------------------ */

char *place(size_t bytes)
{
	static uintptr_t next = 0x100000000000UL;
	uintptr_t at = next;

	next += (bytes + (4UL << 20) - 1) & -(2UL << 20);
	return (char *)at; /* NOLINT(*-int-to-ptr) */
}

char *own_region(void)
{
	char *p = mmap(place(PAGES * PAGE), PAGES * PAGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	must(p != MAP_FAILED, "own memory");
	madvise(p, PAGES * PAGE, MADV_NOHUGEPAGE);
	return p;
}

static int new_file(const char *name)
{
	char path[512];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	must(fd >= 0, path);
	must(!unlink(path), path);
	return fd;
}

/* By single pages: of a larger write Linux may make larger pages. */
static void fill_file(int fd, size_t bytes)
{
	char page[PAGE];

	for (size_t at = 0; at < bytes; at += PAGE) {
		size_t now = bytes - at < PAGE ? bytes - at : PAGE;

		memset(page, (int)(at / PAGE + 1), sizeof(page));
		must(write(fd, page, now) == (ssize_t)now, "a write to a file");
	}
}

int scratch_file(void)
{
	int fd = new_file("oracle");

	fill_file(fd, (PAGES + 1) * PAGE + PAGE / 2);
	return fd;
}

/* Where nothing can be told to leave the cache, the file has to have a disk that forgets it. */
int cold_file(size_t pages)
{
	int fd = new_file("oracle.cold");

	fill_file(fd, pages * PAGE);
	must(!fsync(fd), "fsync");
	must(!posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), "posix_fadvise");
	return fd;
}

char *file_region(int protection, int flags)
{
	int fd = scratch_file();
	char *p = mmap(place(PAGES * PAGE), PAGES * PAGE, protection, flags | MAP_FIXED, fd, 0);

	must(p != MAP_FAILED, "a file's mapping");
	close(fd);
	return p;
}

unsigned read_pages(const volatile char *p, size_t pages)
{
	unsigned sum = 0;

	for (size_t i = 0; i < pages; i++)
		sum += (unsigned char)p[i * PAGE];
	return sum;
}

void write_pages(volatile char *p, size_t pages, char value)
{
	for (size_t i = 0; i < pages; i++)
		p[i * PAGE] = value;
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		fprintf(stderr, "usage: oracle DIR [disk] [huge]\n");
		return 2;
	}
	dir = argv[1];
	touch_self();
	say("begin", 0); /* what prints has its memory */
	anonymous_programs();
	file_programs();
	fork_programs();
	signal_programs();
	mem_programs();
	thread_programs();
	for (int i = 2; i < argc; i++) {
		if (!strcmp(argv[i], "disk"))
			disk_programs();
		if (!strcmp(argv[i], "huge"))
			huge_programs();
	}
	return 0;
}
