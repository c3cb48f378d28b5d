/* The files a VM is made of: opened, checked and locked before anything is built. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

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

static int open_file(struct vm_file *file, const char *kind, struct foal_error *err)
{
	const char *path = file->option->path;
	bool writes = file->option->mode == DISK_SHARED;

	file->fd = open(path, (writes ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK);
	if (file->fd < 0)
		return complain(err, kind, path, -errno, strerror(errno));
	if (file_size(file->fd, &file->size))
		return complain(err, kind, path, -EINVAL,
				"neither a regular file nor a block device");
	if (file->size == 0)
		return complain(err, kind, path, -EINVAL, "empty file; was it cut short?");
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
	int r = opt->initrd ? open_initrd(vm, err) : 0;

	for (unsigned i = 0; i < opt->disk_count && r == 0; i++) {
		vm->disks[i].option = &opt->disks[i];
		r = open_file(&vm->disks[i], "disk", err);
	}
	for (unsigned i = 0; i < opt->pmem_count && r == 0; i++) {
		vm->pmems[i].option = &opt->pmems[i];
		r = open_file(&vm->pmems[i], "pmem", err);
	}
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
		close_fd(&vm->pmems[i].fd);
	}
	close_fd(&vm->initrd_fd);
}
