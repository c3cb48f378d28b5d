#include "tests/kvm/slow_file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/kvm/guests/lib/pattern.h"
#include "tests/kvm/runner.h"

#define FILE_NODE 2
#define PAGE	  4096UL

struct server {
	int fd;
	uint64_t size, bad; /* bytes; the first that is not there */
	bool hangs;	    /* who asks for that gets no answer, else an error */
	bool gone;	    /* that was asked for: nothing is answered any more */
	int begun, go;	    /* pipes of who waits for the first write, and is waited for; or -1 */
};

static void answer(const struct server *s, const struct fuse_in_header *in, int error,
		   const void *data, size_t len)
{
	struct fuse_out_header out = {
	    .len = (uint32_t)(sizeof(out) + len), .error = error, .unique = in->unique};
	struct iovec iov[] = {{&out, sizeof(out)}, {(void *)data, len}};

	if (writev(s->fd, iov, 2) < 0 && errno != ENOENT) /* who asked may be gone */
		_exit(1);
}

static struct fuse_attr attributes(const struct server *s, uint64_t node)
{
	bool file = node == FILE_NODE;

	return (struct fuse_attr){.ino = node,
				  .size = file ? s->size : 0,
				  .mode = file ? S_IFREG | 0600 : S_IFDIR | 0700,
				  .nlink = 1,
				  .blksize = PAGE};
}

static void on_init(const struct server *s, const struct fuse_in_header *in,
		    const struct fuse_init_in *init)
{
	struct fuse_init_out out = {.major = FUSE_KERNEL_VERSION,
				    .minor = init->minor < FUSE_KERNEL_MINOR_VERSION
						 ? init->minor
						 : FUSE_KERNEL_MINOR_VERSION,
				    .max_write = PAGE};

	answer(s, in, 0, &out, sizeof(out));
}

static void on_lookup(const struct server *s, const struct fuse_in_header *in)
{
	struct fuse_entry_out out = {.nodeid = FILE_NODE, .entry_valid = 3600};

	out.attr = attributes(s, FILE_NODE);
	answer(s, in, 0, &out, sizeof(out));
}

static void on_getattr(const struct server *s, const struct fuse_in_header *in)
{
	struct fuse_attr_out out = {.attr = attributes(s, in->nodeid)};

	answer(s, in, 0, &out, sizeof(out));
}

static void on_read(struct server *s, const struct fuse_in_header *in,
		    const struct fuse_read_in *read_in)
{
	uint64_t at = read_in->offset, len = read_in->size;
	uint64_t *data;

	if (at + len > s->bad) {
		s->gone = s->hangs;
		if (s->hangs)
			return;
		usleep(1000); /* real storage tries again before it gives up */
		answer(s, in, -EIO, NULL, 0);
		return;
	}
	data = calloc(1, len);
	for (uint64_t i = 0; data && i < len; i += PAGE)
		data[i / 8] = FILE_PATTERN((at + i) / PAGE);
	answer(s, in, data ? 0 : -ENOMEM, data, data ? len : 0);
	free(data);
}

static void on_write(struct server *s, const struct fuse_in_header *in,
		     const struct fuse_write_in *write_in)
{
	struct fuse_write_out out = {.size = write_in->size};
	char byte = 0;

	if (s->go >= 0 && (write(s->begun, &byte, 1) != 1 || read(s->go, &byte, 1) != 1))
		_exit(1);
	s->go = -1;
	answer(s, in, 0, &out, sizeof(out));
}

static void serve(struct server *s)
{
	static char request[1 << 17];
	const struct fuse_in_header *in = (const struct fuse_in_header *)request;
	const void *body = request + sizeof(*in);
	struct fuse_open_out opened = {0};

	while (read(s->fd, request, sizeof(request)) > 0 || errno == EINTR) {
		if (s->gone)
			continue;
		switch (in->opcode) {
		case FUSE_INIT:
			on_init(s, in, body);
			break;
		case FUSE_LOOKUP:
			on_lookup(s, in);
			break;
		case FUSE_GETATTR:
			on_getattr(s, in);
			break;
		case FUSE_OPEN:
			answer(s, in, 0, &opened, sizeof(opened));
			break;
		case FUSE_READ:
			on_read(s, in, body);
			break;
		case FUSE_WRITE:
			on_write(s, in, body);
			break;
		case FUSE_FLUSH:
		case FUSE_RELEASE:
			answer(s, in, 0, NULL, 0);
			break;
		case FUSE_FORGET:
		case FUSE_BATCH_FORGET:
		case FUSE_INTERRUPT:
			break; /* no answer is wanted */
		default:
			answer(s, in, -ENOSYS, NULL, 0);
		}
	}
	_exit(0);
}

static pid_t start(const char *directory, struct server s)
{
	char options[64];
	pid_t pid;

	s.fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (s.fd < 0)
		return 0;
	ck_assert_int_eq(unshare(CLONE_NEWNS), 0);
	ck_assert_int_eq(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	mkdir(directory, 0700);
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0", s.fd);
	ck_assert_int_eq(mount("slow", directory, "fuse", MS_NODEV, options), 0);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		serve(&s);
	}
	close(s.fd); /* with the server's the connection ends */
	return pid;
}

pid_t slow_file_serve(const char *directory, unsigned pages, unsigned hung)
{
	return start(
	    directory,
	    (struct server){
		.size = pages * PAGE, .bad = hung * PAGE, .hangs = true, .begun = -1, .go = -1});
}

pid_t bad_file_serve(const char *directory, unsigned pages, unsigned bad)
{
	return start(
	    directory,
	    (struct server){.size = pages * PAGE, .bad = bad * PAGE, .begun = -1, .go = -1});
}

pid_t waiting_file_serve(const char *directory, unsigned pages, int begun, int go)
{
	return start(
	    directory,
	    (struct server){.size = pages * PAGE, .bad = pages * PAGE, .begun = begun, .go = go});
}

void slow_file_end(pid_t server)
{
	kill(server, SIGKILL);
	waitpid(server, NULL, 0);
}
