/* The installer over userfaultfd(2). Kernel behaviour: ioctl_userfaultfd(2). */
#include "ept/install.h"

#include "ept/install_wakes.h"
#include "ept/mirror.h"
#include "ept/uffd_compat.h"
#include "ept/uring.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NEEDED \
	(UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM | \
	 UFFD_FEATURE_WP_HUGETLBFS_SHMEM | UFFD_FEATURE_THREAD_ID)

static char zeros[EPT_PAGE_SIZE] __attribute__((aligned(4096)));

static int open_dev(void)
{
	return open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
}

/* The device node's mode says who may; the system call wants CAP_SYS_PTRACE or the sysctl. */
static int open_fd(int dev)
{
	int fd;

	if (dev >= 0) {
		fd = ioctl(dev, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
		if (fd >= 0)
			return fd;
	}
	fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

static int handshake(int fd, uint64_t want, uint64_t *features)
{
	struct uffdio_api api = {.api = UFFD_API, .features = want};

	if (ioctl(fd, UFFDIO_API, &api))
		return errno == EINVAL ? -ENOSYS : -errno;
	*features = api.features; /* all that the kernel has, not only what was asked for */
	return 0;
}

void ept_installer_close_events(struct ept_installer *in)
{
	if (in->fd >= 0)
		close(in->fd);
	in->fd = -1;
}

int ept_installer_open(struct ept_installer *in)
{
	in->dev = open_dev();
	return ept_installer_reopen(in);
}

/* The descriptor of the device makes one for whoever asks by it. */
int ept_installer_reopen(struct ept_installer *in)
{
	int err, fd = open_fd(in->dev);

	in->fd = -1;
	if (fd < 0)
		return fd;
	err = handshake(fd, NEEDED, &in->features);
	if (err) {
		close(fd);
		return err;
	}
	in->fd = fd;
	/* UFFDIO_CONTINUE_MODE_WP came in the release that brought this bit. */
	in->atomic_protect = in->features & UFFD_FEATURE_WP_UNPOPULATED;
	return 0;
}

void ept_installer_close(struct ept_installer *in)
{
	ept_installer_close_events(in);
	if (in->dev >= 0)
		close(in->dev);
	in->dev = -1;
}

void ept_host_probe(struct ept_host *out)
{
	int sysctl = open("/proc/sys/vm/unprivileged_userfaultfd", O_RDONLY | O_CLOEXEC);
	int dev = open_dev(), fd = open_fd(dev);
	char c = '0';

	*out = (struct ept_host){0};
	if (sysctl >= 0) {
		if (read(sysctl, &c, 1) != 1)
			c = '0';
		close(sysctl);
	}
	out->needs_privilege = c != '1';
	out->userfaultfd_error = fd < 0 ? fd : handshake(fd, 0, &out->features);
	out->usable = !out->userfaultfd_error && (out->features & NEEDED) == NEEDED;
	if (fd >= 0)
		close(fd);
	if (dev >= 0)
		close(dev);
	out->uring_error = ept_uring_probe();
}

static uint64_t addr(const void *hva)
{
	return (uint64_t)(uintptr_t)hva;
}

int ept_install_register(struct ept_installer *in, void *hva, size_t len, enum ept_backing backing)
{
	static const uint64_t modes[] = {
	    [EPT_BACKING_ANON] = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP,
	    [EPT_BACKING_MEMFD] =
		UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR | UFFDIO_REGISTER_MODE_WP,
	    [EPT_BACKING_MEMFD_RO] = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR,
	};
	struct uffdio_register reg = {{addr(hva), len}, .mode = modes[backing]};

	return ioctl(in->fd, UFFDIO_REGISTER, &reg) ? -errno : 0;
}

void ept_install_wake(struct ept_installer *in, void *hva, size_t len)
{
	struct uffdio_range range = {addr(hva), len};

	ioctl(in->fd, UFFDIO_WAKE, &range);
}

/*
 * UNREGISTER wakes first and takes the range off its list then. On kernels where a thread
 * faults under its mapping's own lock, one may queue between the two (seen on 6.18) and would
 * sleep for good. Once it has returned, none can.
 */
void ept_install_unregister(struct ept_installer *in, void *hva, size_t len)
{
	struct uffdio_range range = {addr(hva), len};

	ioctl(in->fd, UFFDIO_UNREGISTER, &range);
	ept_install_wake(in, hva, len);
}

/* Every install's mode bit that says: nobody is woken yet. */
#define DONTWAKE UFFDIO_COPY_MODE_DONTWAKE

/* What of it the next install is to say; installed() follows. */
static uint64_t wake_later(void)
{
	return ept_wakes_kept() ? DONTWAKE : 0;
}

static void installed(struct ept_installer *in, void *hva, size_t len, uint64_t mode)
{
	if (mode & DONTWAKE)
		ept_wake_later(in, hva, len);
}

/* What a failed install means to the caller; a lost race is woken here. */
static int install_error(struct ept_installer *in, int error, void *hva, size_t len)
{
	switch (error) {
	case EEXIST:
		ept_install_wake(in, hva, len);
		return -EEXIST;
	case ENOENT: /* the range is no longer registered */
	case ESRCH:  /* the address space is going away */
		return -ESHUTDOWN;
	default:
		return -error;
	}
}

static int protect(struct ept_installer *in, void *hva, size_t len, uint64_t mode)
{
	struct uffdio_writeprotect wp = {{addr(hva), len}, .mode = mode};

	if (!mode && ept_wakes_kept())
		wp.mode = UFFDIO_WRITEPROTECT_MODE_DONTWAKE;
	if (!ioctl(in->fd, UFFDIO_WRITEPROTECT, &wp)) {
		if (wp.mode == UFFDIO_WRITEPROTECT_MODE_DONTWAKE)
			ept_wake_later(in, hva, len);
		return 0;
	}
	return install_error(in, errno, hva, len);
}

int ept_install_protect(struct ept_installer *in, void *hva, size_t len, bool on)
{
	return protect(in, hva, len, on ? UFFDIO_WRITEPROTECT_MODE_WP : 0);
}

/*
 * Who would write to the page waits for it to be granted: the kernel orders that, which
 * ThreadSanitizer does not know (nor of memcmp in a function that it is to leave alone).
 */
__attribute__((noinline, no_sanitize("thread"))) static bool still_zeros(const void *page)
{
	const uint64_t *word = page;

	for (unsigned i = 0; i < EPT_PAGE_SIZE / sizeof(*word); i++)
		if (word[i])
			return false;
	return true;
}

/*
 * ZEROPAGE cannot write-protect. A write by another vCPU between the two steps
 * gets its own page from the host kernel unseen, which is then protected: once it
 * is, its bytes say so.
 */
int ept_install_zero(struct ept_installer *in, void *hva)
{
	struct uffdio_zeropage zero = {{addr(hva), EPT_PAGE_SIZE},
				       .mode = UFFDIO_ZEROPAGE_MODE_DONTWAKE};
	int err;

	if (ioctl(in->fd, UFFDIO_ZEROPAGE, &zero))
		return install_error(in, errno, hva, EPT_PAGE_SIZE);
	err = ept_install_protect(in, hva, EPT_PAGE_SIZE, true);
	ept_wake_later(in, hva, EPT_PAGE_SIZE);
	if (err == -ESHUTDOWN)
		return err;
	/* Writable, or somebody's own: the caller must not call it the zero page. */
	return err || !still_zeros(hva) ? -EEXIST : 0;
}

int ept_install_copy(struct ept_installer *in, void *hva, const void *src)
{
	size_t done;

	return ept_install_copies(in, hva, src ? src : zeros, EPT_PAGE_SIZE, &done);
}

int ept_install_copies(struct ept_installer *in, void *hva, const void *src, size_t len,
		       size_t *done)
{
	for (*done = 0; *done < len;) {
		char *to = (char *)hva + *done;
		struct uffdio_copy copy = {.dst = addr(to),
					   .src = addr(src) + *done,
					   .len = len - *done,
					   .mode = wake_later()};
		size_t came = len - *done;

		if (ioctl(in->fd, UFFDIO_COPY, &copy)) {
			if (copy.copy <= 0)
				return install_error(in, errno, to, EPT_PAGE_SIZE);
			came = (size_t)copy.copy;
		}
		installed(in, to, came, copy.mode);
		*done += came;
	}
	return 0;
}

int ept_install_move(struct ept_installer *in, void *hva, void *src, size_t *done)
{
	struct uffdio_move move = {
	    .dst = addr(hva), .src = addr(src), .len = EPT_LEAF_BYTES, .mode = wake_later()};

	*done = 0;
	if (!(in->features & UFFD_FEATURE_MOVE))
		return -EOPNOTSUPP;
	madvise(hva, EPT_LEAF_BYTES, MADV_DONTNEED);
	if (!ioctl(in->fd, UFFDIO_MOVE, &move)) {
		*done = EPT_LEAF_BYTES;
		installed(in, hva, *done, move.mode);
		return 0;
	}
	if (move.move > 0) {
		*done = (size_t)move.move;
		installed(in, hva, *done, move.mode);
		return -EAGAIN;
	}
	if (errno == EBUSY || errno == EINVAL || errno == ENOENT) /* shared, pinned, split */
		return -EOPNOTSUPP;
	return install_error(in, errno, hva, EPT_LEAF_BYTES);
}

int ept_install_poison(struct ept_installer *in, void *hva)
{
	struct uffdio_poison poison = {.range = {addr(hva), EPT_PAGE_SIZE}, .mode = wake_later()};

	if (!ioctl(in->fd, UFFDIO_POISON, &poison)) {
		installed(in, hva, EPT_PAGE_SIZE, poison.mode);
		return 0;
	}
	return install_error(in, errno, hva, EPT_PAGE_SIZE);
}

/* Map [hva, hva + len) in as few calls as it takes; *done counts what is there. */
static int map_cached(struct ept_installer *in, char *hva, size_t len, uint64_t mode, size_t *done)
{
	int result = 0;

	while (*done < len) {
		struct uffdio_continue cont = {{addr(hva + *done), len - *done}, .mode = mode};

		if (!ioctl(in->fd, UFFDIO_CONTINUE, &cont)) {
			*done = len;
		} else if (cont.mapped > 0) {
			*done += cont.mapped;
		} else if (errno == EEXIST) {
			result = install_error(in, EEXIST, hva + *done, EPT_PAGE_SIZE);
			*done += EPT_PAGE_SIZE;
		} else {
			return install_error(in, errno, hva + *done, len - *done);
		}
	}
	return result;
}

int ept_install_continue(struct ept_installer *in, void *hva, size_t len, bool wp, size_t *done)
{
	bool together = !wp || in->atomic_protect;
	uint64_t mode = together ? wake_later() : DONTWAKE;
	int result, err = 0;

	*done = 0;
	if (wp && together)
		mode |= UFFDIO_CONTINUE_MODE_WP;
	result = map_cached(in, hva, len, mode, done);
	if (!*done)
		return result;
	if (!together)
		err = ept_install_protect(in, hva, *done, true);
	installed(in, hva, *done, mode);
	return err ? err : result;
}

int ept_install_move_pages(struct ept_installer *in, void *to, void *from, size_t len, size_t *done)
{
	*done = 0;
	while (*done < len) {
		struct uffdio_move move = {.dst = addr((char *)to + *done),
					   .src = addr((char *)from + *done),
					   .len = len - *done,
					   .mode = wake_later()};
		bool all = !ioctl(in->fd, UFFDIO_MOVE, &move);
		size_t came = all ? len - *done : (size_t)move.move;

		if (!all && move.move <= 0)
			return errno == ESRCH ? -ESHUTDOWN : -errno;
		installed(in, (char *)to + *done, came, move.mode);
		*done += came;
	}
	return 0;
}

int ept_install_drop(struct ept_installer *in, void *hva, size_t len)
{
	(void)in;
	return madvise(hva, len, MADV_DONTNEED) ? -errno : 0;
}

int ept_install_populate(void *hva, size_t len, bool write)
{
	while (madvise(hva, len, write ? MADV_POPULATE_WRITE : MADV_POPULATE_READ))
		if (errno != EINTR && errno != EAGAIN)
			return errno == ENOMEM ? -ENOMEM : -EFAULT;
	return 0;
}

void ept_install_advise(void *hva, size_t len, bool small)
{
	madvise(hva, len, MADV_DONTDUMP);
	if (small)
		madvise(hva, len, MADV_NOHUGEPAGE);
}

#ifndef MADV_COLLAPSE /* 6.1, in libc's headers from 2.37 on */
#	define MADV_COLLAPSE 25
#endif

int ept_install_want_huge(void *hva, size_t len, bool huge)
{
	return madvise(hva, len, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE) ? -errno : 0;
}

/* filemap_fault(): of VM_HUGEPAGE a folio of 2 MiB, and of VM_RAND_READ no second one. */
int ept_install_in_whole(void *hva, size_t len)
{
	if (madvise(hva, len, MADV_HUGEPAGE) || madvise(hva, len, MADV_RANDOM))
		return -errno;
	return 0;
}

int ept_install_collapse(void *hva, size_t len)
{
	return madvise(hva, len, MADV_COLLAPSE) ? -errno : 0;
}
