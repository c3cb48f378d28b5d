/*
 * The files a VM is made of, and its networks: opened, checked and locked before
 * anything is built.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/remote_disk.h"
#include "vmm/vm.h"

static int complain(struct foal_error *err, const char *kind, const char *path, int error,
		    const char *what)
{
	return error_set(err, FOAL_EXIT_DISK, error, "--%s %s: %s", kind, path, what);
}

/*
 * Two VMs that write one image, or one that writes what another reads, end in
 * a broken filesystem that nobody can explain later: open file description
 * locks refuse it at the start (fcntl(2), F_OFD_SETLK).
 */
static int lock_file(int fd, bool writes)
{
	struct flock lock = {.l_type = writes ? F_WRLCK : F_RDLCK, .l_whence = SEEK_SET};

	return fcntl(fd, F_OFD_SETLK, &lock) ? -errno : 0;
}

static int file_size(int fd, uint64_t *size)
{
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	if (S_ISREG(st.st_mode))
		*size = (uint64_t)st.st_size;
	else if (!S_ISBLK(st.st_mode))
		return -EINVAL;
	else if (ioctl(fd, BLKGETSIZE64, size))
		return -errno;
	return 0;
}

/* A misspelt option is a part of the name, since names may have commas. */
static int complain_open(struct foal_error *err, const char *kind, const char *path, int error)
{
	bool comma = error == -ENOENT && strchr(path, ',');

	return error_set(err, FOAL_EXIT_DISK, error, "--%s %s: %s%s", kind, path, strerror(-error),
			 comma ? "; of the words after a comma only mode=, and a disk's format=, "
				 "are options"
			       : "");
}

static bool is_qcow2(int fd)
{
	char head[4];

	return pread(fd, head, sizeof(head), 0) == sizeof(head) &&
	       memcmp(head, "QFI\xfb", sizeof(head)) == 0;
}

static int open_file(struct vm_file *file, const char *kind, struct foal_error *err)
{
	const char *path = file->option->path;
	bool writes = file->option->mode == DISK_SHARED;

	file->fd = open(path, (writes ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK);
	if (file->fd < 0)
		return complain_open(err, kind, path, -errno);
	if (file_size(file->fd, &file->size))
		return complain(err, kind, path, -EINVAL,
				"neither a regular file nor a block device");
	if (file->size == 0)
		return complain(err, kind, path, -EINVAL, "empty file; was it cut short?");
	return 0;
}

/* The rest, once the file is known to be what the option says. */
static int take_file(struct vm_file *file, const char *kind, struct foal_error *err)
{
	const char *path = file->option->path;
	bool writes = file->option->mode == DISK_SHARED;

	if (file->size % 512)
		return complain(err, kind, path, -EINVAL,
				"its size is no multiple of 512 bytes; was it cut short?");
	int locked = lock_file(file->fd, writes);
	if (locked && locked != -EAGAIN && locked != -EACCES)
		return complain(err, kind, path, locked, strerror(-locked));
	if (locked)
		return complain(err, kind, path, -EBUSY,
				writes ? "in use by another VM; mode=shared needs it alone"
				       : "in use by a VM that writes it (mode=shared)");
	return 0;
}

/*
 * An image in a format that was not said is taken for raw, never probed for: a
 * guest could write another format's header into its raw disk, and have the next
 * start open files of its choice. That it looks like one is only said.
 */
static int open_disk(struct vm_file *file, struct foal_error *err)
{
	int r = open_file(file, "disk", err);

	if (r == 0 && file->option->kind == FILE_UNSAID && is_qcow2(file->fd))
		r = complain(err, "disk", file->option->path, -EINVAL,
			     "a qcow2 image: add format=qcow2, or format=raw if the guest is to "
			     "see it as it is");
	return r ? r : take_file(file, "disk", err);
}

static int open_pmem(struct vm_file *file, struct foal_error *err)
{
	int r = open_file(file, "pmem", err);

	return r ? r : take_file(file, "pmem", err);
}

static int open_initrd(struct vm *vm, struct foal_error *err)
{
	const char *path = vm->opt->initrd;

	vm->initrd_fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (vm->initrd_fd < 0)
		return error_set(err, FOAL_EXIT_KERNEL, -errno, "initrd %s: %s", path,
				 strerror(errno));
	if (file_size(vm->initrd_fd, &vm->initrd_size) || vm->initrd_size == 0)
		return error_set(err, FOAL_EXIT_KERNEL, -EINVAL,
				 "initrd %s: empty, or not a regular file", path);
	return 0;
}

int files_open(struct vm *vm, struct foal_error *err)
{
	const struct run_options *opt = vm->opt;
	int r = opt->firmware ? firmware_open(vm, err) : 0;

	vm->helpers.change_ids = opt->change_ids;
	vm->helpers.uid = opt->uid;
	vm->helpers.gid = opt->gid;
	if (r == 0 && opt->limit.swap)
		r = swap_open(&opt->limit, &vm->swap_fd, err);
	if (r == 0 && opt->initrd)
		r = open_initrd(vm, err);
	for (unsigned i = 0; i < opt->disk_count && r == 0; i++) {
		vm->disks[i].option = &opt->disks[i];
		if (remote_disk_wanted(&opt->disks[i]))
			r = remote_disk_open(&opt->disks[i], &vm->helpers, &vm->disks[i].backend,
					     err);
		else
			r = open_disk(&vm->disks[i], err);
	}
	for (unsigned i = 0; i < opt->pmem_count && r == 0; i++) {
		vm->pmems[i].option = &opt->pmems[i];
		r = open_pmem(&vm->pmems[i], err);
	}
	if (r == 0 && opt->vsock.path)
		r = vsock_open(&vm->vsock, &opt->vsock, &vm->helpers, err);
	for (unsigned i = 0; i < opt->net_count && r == 0; i++)
		r = net_open(&vm->nets[i], &opt->nets[i], &vm->helpers, err);
	return r;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void files_close(struct vm *vm)
{
	for (unsigned i = 0; i < MAX_FILES; i++) {
		close_fd(&vm->disks[i].fd);
		disk_backend_close(vm->disks[i].backend);
		vm->disks[i].backend = NULL;
		close_fd(&vm->pmems[i].fd);
	}
	for (unsigned i = 0; i < MAX_NETS; i++)
		net_close(&vm->nets[i]);
	vsock_close(&vm->vsock);
	close_fd(&vm->initrd_fd);
	close_fd(&vm->swap_fd);
	close_fd(&vm->firmware.fd);
}

/* --- what a run writes: its statistics, a trace ------------------------------------ */

static bool is_at(const struct stat *st, const char *path)
{
	struct stat other;

	return path && stat(path, &other) == 0 && other.st_dev == st->st_dev &&
	       other.st_ino == st->st_ino;
}

/* By name, too: images are not locked, nor are disks that a helper opens. */
static bool is_own(const struct run_options *opt, const struct stat *st)
{
	bool own = is_at(st, opt->kernel) || is_at(st, opt->initrd) ||
		   is_at(st, opt->firmware ? firmware_path(opt) : NULL);

	for (unsigned i = 0; i < opt->disk_count; i++)
		own |= is_at(st, opt->disks[i].path);
	for (unsigned i = 0; i < opt->pmem_count; i++)
		own |= is_at(st, opt->pmems[i].path);
	return own;
}

/* Locked for as long as it is written: another's lines would go between, and it be emptied. */
static const char *take_output(const struct run_options *opt, int fd)
{
	struct stat st;
	int locked;

	if (fstat(fd, &st))
		return strerror(errno);
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return NULL;
	locked = lock_file(fd, true);
	if (is_own(opt, &st) || locked == -EAGAIN || locked == -EACCES)
		return "a file that a VM uses; name another";
	return S_ISREG(st.st_mode) && ftruncate(fd, 0) ? strerror(errno) : NULL;
}

static int open_output(const struct run_options *opt, const char *option, const char *path,
		       int flags, mode_t mode, struct foal_error *err)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_NOCTTY | O_CLOEXEC | flags, mode);
	const char *why = fd < 0 ? strerror(errno) : take_output(opt, fd);

	if (why && fd >= 0)
		close(fd);
	return why ? error_set(err, FOAL_EXIT_USAGE, -EINVAL, "--%s %s: %s", option, path, why)
		   : fd;
}

int stats_file_open(const struct run_options *opt, struct foal_error *err)
{
	return open_output(opt, "stats-file", opt->stats_file, 0, 0666, err);
}

/* Of a pipe that nobody reads it says so; a line that a full one does not take ends the trace. */
int trace_open(const struct run_options *opt, int *fd, struct foal_error *err)
{
	*fd = opt->trace ? open_output(opt, "trace", opt->trace, O_APPEND | O_NONBLOCK, 0600, err)
			 : 0;
	return *fd < 0 ? *fd : 0;
}
