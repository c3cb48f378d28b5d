/*
 * The installer: the one file that puts pages into guest memory, protects them
 * and takes them away (UFFDIO_*, madvise). Unit tests link another file with
 * these symbols in its place.
 *
 * Callers hold the lock of the mirror's leaf that covers the range; a range
 * never crosses a leaf. Every install wakes whoever waits in the range, after
 * the page is there with its protection; at once, or when ept_install_wake_kept()
 * is called.
 *
 * Errors all installs share: -EEXIST (a page was there already: waiters woken),
 * -EAGAIN (the address space was changing: try again), -ENOMEM, -ESHUTDOWN
 * (the range is not registered any more: the space is being stopped).
 */
#ifndef FOAL_EPT_INSTALL_H
#define FOAL_EPT_INSTALL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ept_installer {
	int fd;		   /* where events are read from; non-blocking. -1: not open */
	int dev;	   /* /dev/userfaultfd, for after a fork; -1: not open */
	uint64_t features; /* UFFD_FEATURE_* the kernel offers */
	/*
	 * CONTINUE can write-protect in the same step (Linux 6.4). Without it
	 * a write can slip in between (fault_mapped_as()).
	 */
	bool atomic_protect;
};

enum ept_backing { EPT_BACKING_ANON, EPT_BACKING_MEMFD, EPT_BACKING_MEMFD_RO };

/* -EPERM, -ENOSYS (a needed feature is missing), -EMFILE. */
int ept_installer_open(struct ept_installer *in);
void ept_installer_close(struct ept_installer *in);

/*
 * In a forked child, both async-signal-safe: let go of the parent's events; get this
 * process's own (errors as ept_installer_open, nothing is registered).
 */
void ept_installer_close_events(struct ept_installer *in);
int ept_installer_reopen(struct ept_installer *in);

/* Faults in the range become events, until it is unregistered (which wakes). */
int ept_install_register(struct ept_installer *in, void *hva, size_t len, enum ept_backing backing);
void ept_install_unregister(struct ept_installer *in, void *hva, size_t len);

/* Anonymous: the shared zero page, write-protected. -EEXIST also if somebody wrote meanwhile. */
int ept_install_zero(struct ept_installer *in, void *hva);

/* Anonymous or private: an own, writable page with the bytes at @src (NULL: zeros). */
int ept_install_copy(struct ept_installer *in, void *hva, const void *src);

/*
 * The same for @len bytes, @src not NULL. *@done bytes from the start are in; not
 * all, if a page was there or on another error.
 */
int ept_install_copies(struct ept_installer *in, void *hva, const void *src, size_t len,
		       size_t *done);

/*
 * Anonymous: the huge page at @src, which is anonymous memory of this process, moves to
 * @hva, where nothing is. An empty page table there goes first, if the host lets it:
 * beside one the page would be taken apart. -EOPNOTSUPP: this kernel cannot move (Linux
 * before 6.8), or not this page; it is still at @src. One that comes apart on the way may
 * go in in part: *@done bytes from the start are in, and guests use them, on an error, too.
 */
int ept_install_move(struct ept_installer *in, void *hva, void *src, size_t *done);

/*
 * Map @len bytes of the memfd's cached pages. @protect: a write is an event. A
 * page that is there already is passed over and makes the result -EEXIST. On
 * other errors *@done bytes from the start were dealt with. Not atomic_protect: a write
 * between the two steps is seen by nobody (fault_mapped_as() says what it leaves).
 */
int ept_install_continue(struct ept_installer *in, void *hva, size_t len, bool protect,
			 size_t *done);

/* Write-protect present pages, or grant writing again and wake. */
int ept_install_protect(struct ept_installer *in, void *hva, size_t len, bool on);

/* The page at @hva, which is not there, is an error to whoever touches it (Linux 6.6). */
int ept_install_poison(struct ept_installer *in, void *hva);

void ept_install_wake(struct ept_installer *in, void *hva, size_t len);

/*
 * From here on this thread's installs keep their wakes, of one range in one piece (what
 * does not join it is woken as it comes), until ept_install_wake_kept(), which is called
 * with no lock. A vCPU may run as soon as it is woken, in place of the thread that woke it:
 * what that one still has to note, and its locks, everybody would wait for.
 */
void ept_install_keep_wakes(void);
void ept_install_wake_kept(struct ept_installer *in);

/*
 * Move own pages of anonymous memory from @from to @to, both registered, without a
 * copy; they are writable there. *@done: bytes moved from the start, also on errors:
 * -EEXIST (something is at @to), -ENOENT (nothing at @from), -EBUSY (the kernel or a
 * fork holds the page: it stays where it is). Linux 6.8, UFFD_FEATURE_MOVE.
 */
int ept_install_move_pages(struct ept_installer *in, void *to, void *from, size_t len,
			   size_t *done);

/* Take pages away; anonymous memory reads as zero afterwards. Needs no open installer. */
int ept_install_drop(struct ept_installer *in, void *hva, size_t len);

/*
 * Bring pages in by the host kernel's own path, without SIGBUS where a file
 * has shrunk. -EFAULT (nothing there to map), -ENOMEM.
 */
int ept_install_populate(void *hva, size_t len, bool write);

/* What a fresh mapping of guest memory is told: no core dumps; no huge pages if @small. */
void ept_install_advise(void *hva, size_t len, bool small);

/*
 * What the host kernel backs by itself: shall it use huge pages when it is next
 * touched? What is there stays as it is. 0 or madvise(2)'s errors.
 */
int ept_install_want_huge(void *hva, size_t len, bool huge);

/*
 * A mapping of a file: a touch of what the host's page cache lacks reads the 2 MiB of the
 * file that it lies in, in one folio where the file system can, and nothing else. 0, or
 * madvise(2)'s errors: a host without huge pages.
 */
int ept_install_in_whole(void *hva, size_t len);

/*
 * Make a huge page of each 2 MiB of the range, which want huge ones, whatever is there
 * of them. An error is the last one's that did not become one; others may have. -EAGAIN
 * (not now), -ENOMEM (the host has no free 2 MiB), -EINVAL (Linux before 6.1).
 */
int ept_install_collapse(void *hva, size_t len);

#endif
