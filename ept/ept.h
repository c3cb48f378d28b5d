/*
 * ept/ - guest-physical memory that is not there until it is touched.
 *
 * A space is one VM's guest-physical memory: areas (its VMAs) backed by
 * objects (where pages come from), a page-table mirror that says what is
 * installed where, and fault threads that resolve what the guest touches.
 *
 *   guest access -> nested page fault -> event -> request -> area
 *                -> handler of the case -> install -> ledger
 *
 * This room makes no KVM call and knows no device. It offers memory slots for
 * the monitor to register and one entry for every touch of guest memory,
 * whoever touches: vCPU (through userfaultfd), device or loader (by a call).
 *
 * Life of a space:
 *   ept_space_create -> ept_area_add... -> ept_space_start
 *     -> (guest runs; any thread may touch) -> ept_space_stop -> ept_space_destroy
 *
 * Locks: every function here may be called from any thread unless it says
 * otherwise; docs/locking.md has the table. Errors: 0 or a negative errno.
 * Sizes and addresses are bytes; times are nanoseconds of CLOCK_MONOTONIC.
 */
#ifndef FOAL_EPT_H
#define FOAL_EPT_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#define EPT_PAGE_SHIFT 12
#define EPT_PAGE_SIZE  (1UL << EPT_PAGE_SHIFT)
#define EPT_PAGE_MASK  (~(EPT_PAGE_SIZE - 1))
/* A mirror of four levels spans 48 bits, as a four-level EPT does (SDM 3C 29.3.2). */
#define EPT_GPA_BITS   48

/* A guest-physical address; never a pointer, never mixed with one. */
typedef struct {
	uint64_t v;
} gpa_t;

#define GPA(x) ((gpa_t){(uint64_t)(x)})

struct ept_space;
struct ept_area;
struct ept_object;

/* --- the words of a fault ------------------------------------------------ */

enum ept_access { EPT_READ, EPT_WRITE };

/* Who touched. An event whose thread is no known vCPU came from KVM's own worker. */
#define EPT_ORIGINS(X) \
	X(VCPU, "vcpu") \
	X(KVM, "kvm") \
	X(DEVICE, "device") \
	X(LOADER, "loader")

enum ept_origin {
#define X(id, name) EPT_ORIGIN_##id,
	EPT_ORIGINS(X)
#undef X
	    EPT_NR_ORIGINS
};

/*
 * The cases. Every fault ends as exactly one; handler, counter, line of a trace
 * and test carry the name given here (docs/fault-paths.md goes through them).
 */
#define EPT_CASES(X) \
	X(ANON_READ, "anon_read", "untouched anonymous page read: shared zero page") \
	X(ANON_WRITE, "anon_write", "untouched anonymous page written: own zeroed page") \
	X(ANON_WP, "anon_wp", "zero page written: own zeroed page in its place") \
	X(FILE_READ, "file_read", "private file page read: cached page, read-only") \
	X(FILE_COW, "file_cow", "untouched private file page written: own copy in one step") \
	X(FILE_WP, "file_wp", "private file page written after it was read: own copy") \
	X(SHARED_READ, "shared_read", "shared file page read: cached page, write-protected") \
	X(SHARED_WRITE, "shared_write", "untouched shared file page written: noted dirty") \
	X(SHARED_MKWRITE, "shared_mkwrite", "clean shared file page written: noted dirty") \
	X(ANON_HUGE, "anon_huge", "untouched 2 MiB of anonymous memory: one zeroed huge page") \
	X(FILE_HUGE, "file_huge", "untouched 2 MiB of a file: read aside, moved in whole") \
	X(SNAP_READ, "snap_read", "snapshot page read: own copy out of its checked extent") \
	X(SNAP_WRITE, "snap_write", "snapshot page written: the same") \
	X(HINT_READ, "hint_read", "page sampled by reclaim read: it is in use") \
	X(HINT_WRITE, "hint_write", "page sampled by reclaim written: it is in use") \
	X(SWAP_READ, "swap_read", "swapped page read: own page with its bytes") \
	X(SWAP_WRITE, "swap_write", "swapped page written: own page with its bytes") \
	X(SPURIOUS, "spurious", "the access was granted already") \
	X(TRANSIT, "transit", "another thread was bringing the page in") \
	X(RO_WRITE, "ro_write", "write to a read-only area: dropped") \
	X(NO_AREA, "no_area", "no area there: open bus") \
	X(IO_ERROR, "io_error", "the object could not be read") \
	X(IO_POISON, "io_poison", "the object could not be read: the page is poisoned") \
	X(NO_MEMORY, "no_memory", "the host has no memory for the page") \
	X(DYING, "dying", "the space is being stopped: install refused")

enum ept_case {
#define X(id, name, what) EPT_CASE_##id,
	EPT_CASES(X)
#undef X
	    EPT_NR_CASES
};

const char *ept_case_name(enum ept_case c);
const char *ept_case_what(enum ept_case c);
const char *ept_origin_name(enum ept_origin o);

enum ept_result {
	EPT_RESOLVED,	/* the access will succeed (or was dropped by policy) */
	EPT_RETRY,	/* state moved meanwhile; only the top loop sees this */
	EPT_BUS_ERROR,	/* nothing there, or the object could not be read */
	EPT_OUT_OF_MEM, /* no memory for the page */
	EPT_FATAL,	/* the space cannot go on; ept_space_failure() says why */
};

/* --- objects --------------------------------------------------------------- */

enum ept_file_mode {
	EPT_FILE_RO,	 /* pages are read; the guest cannot write */
	EPT_FILE_COW,	 /* pages are read; guest writes go to private copies */
	EPT_FILE_SHARED, /* guest writes reach the file at ept_area_sync() */
};

/*
 * An object over @length bytes of the open file @fd from byte @offset (any
 * alignment; need not be page-aligned). Beyond @length the last page reads as
 * zeros. @fd is dup'ed; @name (a path, for messages and counters) is copied.
 * Regular files and block devices only.
 * Errors: -EINVAL (empty range, wrong kind of file, range past its end),
 * -EBADF/-EACCES (not open for what @mode needs), -ENOMEM, -EMFILE.
 */
int ept_object_file(int fd, const char *name, uint64_t offset, uint64_t length,
		    enum ept_file_mode mode, struct ept_object **out);

/* Drop the caller's reference; areas hold their own. NULL is allowed. */
void ept_object_put(struct ept_object *obj);

/* --- spaces and areas ------------------------------------------------------ */

enum ept_engine {
	EPT_ENGINE_HANDLER, /* our handlers, through userfaultfd */
	EPT_ENGINE_KERNEL,  /* the host kernel's own fault path; no case is seen */
	EPT_ENGINE_AUTO,    /* of a space only: KERNEL wherever the host can do it as well */
};

/* When memory is backed by 2 MiB pages (docs/huge-pages.md). */
enum ept_huge {
	EPT_HUGE_AUTO,	 /* what turns out to be touched densely */
	EPT_HUGE_ALWAYS, /* wherever the host has one to give */
	EPT_HUGE_NEVER,
};

/* What becomes of a page that its object does not give. */
enum ept_io_policy {
	EPT_IO_STOP,   /* the space fails */
	EPT_IO_POISON, /* the page is poisoned, the rest goes on; STOP where the host cannot */
};

struct ept_config {
	const char *vm_name;	/* for messages; copied */
	enum ept_engine engine; /* of its areas */
	unsigned vcpus;		/* at least 1 */
	/* Called before each thread of the space is made, by the one who makes it. NULL: no need.
	 */
	void (*thread_expected)(void *ctx);
	/*
	 * Called first by each thread of the space, of kind @kind ("fault", "read"),
	 * before it does anything with what a guest gave; from then on it opens no
	 * file and asks for no right. NULL: nothing to do.
	 */
	void (*thread_begins)(void *ctx, const char *kind);
	void *thread_ctx;
	/*
	 * Pages mapped around a read fault of a file, power of two, 1..512; 0: default,
	 * 16. Sequential readers get larger windows from there, and are read ahead; 1
	 * switches all of it off: a fault brings its page.
	 */
	unsigned fault_around;
	bool no_zero_page; /* a first read installs an own page */
	enum ept_huge huge;
	enum ept_io_policy on_io_error;
	unsigned fault_timeout; /* seconds a fault may take until ept_space_check() fails the
				   space; 0: any */
	/*
	 * Bytes of guest memory that may be resident, at least EPT_LIMIT_FLOOR; 0: no
	 * limit. What counts is docs/reclaim.md's. With a limit EPT_ENGINE_AUTO is
	 * HANDLER for every area, EPT_ENGINE_KERNEL is refused, and so is
	 * EPT_HUGE_ALWAYS; EPT_HUGE_AUTO is NEVER.
	 */
	uint64_t memory_limit;
	const struct ept_swap_file *swap; /* of a limit; NULL: nothing is swapped */
	int trace_fd; /* open for appending, a line for each fault; dup'ed; 0: none */
	bool log;     /* a record of each fault is kept, for who asks (ept/record.h) */
	/*
	 * Of every so many faults of a vCPU one is sampled (ept_vcpu_asked()); 0: none. @kick: get
	 * its thread (ept_vcpu_bind()), which may be gone by now, out of KVM_RUN; waits for
	 * nothing.
	 */
	unsigned sample_every;
	void (*kick)(pid_t tid);
};

/* A regular file that is nobody else's, open for reading and writing. */
struct ept_swap_file {
	int fd;		  /* dup'ed; with O_DIRECT if it can, so that it costs no memory */
	const char *name; /* for messages; copied */
	uint64_t size;	  /* bytes that it may have at most */
};

#define EPT_LIMIT_FLOOR	      (16UL << 20)

/* A thread a vCPU up to this many; further vCPUs are served by whichever is free. */
#define EPT_MAX_FAULT_THREADS 64
/* More vCPUs than any KVM has. */
#define EPT_MAX_VCPUS	      4096

/*
 * Create an empty space. Opens userfaultfd for the handler engine.
 * Errors: -EPERM (no right to userfaultfd), -ENOSYS (kernel without a feature
 * that is needed: missing, write-protect and minor faults on shmem; Linux
 * 5.19), -EINVAL, -ENOMEM, -EMFILE.
 */
int ept_space_create(const struct ept_config *config, struct ept_space **out);

/* Why nothing is traced any more: 0, or what writing to the trace's file said (-ENOSPC). */
int ept_space_trace_error(const struct ept_space *space);

/*
 * Add an area of @size bytes at @gpa, both multiples of EPT_PAGE_SIZE, before
 * ept_space_start(). Where it overlaps an anonymous area it replaces that
 * part (as mmap's MAP_FIXED does); overlap with a file area is -EEXIST.
 * @obj is NULL for anonymous memory; for a file @size may be anything up to
 * the object's length rounded up to a page, starting at object byte 0.
 * @name is copied ("ram", "kernel:.text", "pmem0"). What is left above a part
 * that was replaced is an area of its own with the old name; an anonymous area
 * that is replaced whole is gone, and pointers to it with it. @out may be NULL.
 * Errors: -EINVAL, -EEXIST, -ENOMEM, -ERANGE (outside EPT_GPA_BITS).
 */
int ept_area_add(struct ept_space *space, const char *name, gpa_t gpa, uint64_t size,
		 struct ept_object *obj, struct ept_area **out);

/*
 * Map every area and start the fault threads. After this the slots are fixed
 * and guest memory may be touched.
 */
int ept_space_start(struct ept_space *space);

/* Where a range of guest-physical memory lies in this process. */
struct ept_slot {
	gpa_t gpa;
	uint64_t size; /* bytes */
	void *hva;
	bool read_only; /* register with KVM_MEM_READONLY */
};

/*
 * The memory slots of a started space, ascending, none touching another unless
 * read_only differs. Returns how many there are; fills at most @max.
 */
size_t ept_space_slots(const struct ept_space *space, struct ept_slot *slots, size_t max);

/*
 * Tell the space which thread runs vCPU @vcpu, called by that thread once,
 * before its first KVM_RUN and while it may still open files (proc(5)), and
 * which CPU it is on whenever it comes back to user space (cheap: one relaxed
 * store). The fault thread that serves it moves there.
 */
void ept_vcpu_bind(struct ept_space *space, unsigned vcpu, pid_t tid);
void ept_vcpu_on_cpu(struct ept_space *space, unsigned vcpu, int cpu);

/*
 * By that thread, too: it is about to enter KVM_RUN, and what it was asked for before is void,
 * since it may stand elsewhere by now; KVM_RUN was interrupted: is it asked where the vCPU stands?
 * Then that is said: its RIP, its privilege level, and whether the RIP is that of the access
 * (@exact) or near it.
 */
void ept_vcpu_enters(struct ept_space *space, unsigned vcpu);
bool ept_vcpu_asked(const struct ept_space *space, unsigned vcpu);
void ept_vcpu_sampled(struct ept_space *space, unsigned vcpu, uint64_t rip, unsigned cpl,
		      bool exact);

/*
 * What the space counts by time counts from @since on: where its VM began (stats.h, fault debt).
 * From when it was created or forked, if this is not called. No fault is under way.
 */
void ept_space_begins(struct ept_space *space, uint64_t since);

/*
 * End fault handling: refuse further installs, wake every waiter (what it then
 * sees in guest memory is undefined, so the vCPUs must have been told to leave
 * KVM_RUN, immediate_exit set, before), end the fault threads. Idempotent.
 */
void ept_space_stop(struct ept_space *space);

/* Unmap and free all. The space must be stopped and no thread may touch it. */
void ept_space_destroy(struct ept_space *space);

size_t ept_area_count(const struct ept_space *space);
struct ept_area *ept_area_at(const struct ept_space *space, size_t index);

/* --- holding and forking -------------------------------------------------------- */

/*
 * Hold a started space: faults under way end, further ones wait, its own threads do
 * nothing until it is released by the same thread, whose own touches go on. The vCPUs
 * are out of KVM_RUN and the devices drained before. -EBUSY (held already), -ETIMEDOUT
 * (something does not end: nothing is held), -ESHUTDOWN.
 */
int ept_space_hold(struct ept_space *space, unsigned timeout_ms);
void ept_space_release(struct ept_space *space);

/*
 * Fork a held space with its process, copy-on-write in both directions:
 *
 *   ept_space_hold, ept_space_fork_begin, fork()
 *     parent: ept_space_fork_parent, ept_space_release
 *     child:  ept_space_fork_child first, before any touch of guest memory;
 *             ept_space_fork_start before the vCPUs run
 *     parent: ept_space_fork_done once the child has returned from ept_space_fork_child,
 *             or is gone
 *
 * all by one thread a process. The child's counters begin at 0, and its descriptors
 * (ept_space_failure_fd) are new ones. It shares no memory with the parent that either
 * could write to. A forked space can be forked again.
 */
struct ept_fork {
	struct ept_swap_pin *pin; /* of the swap file */
	uint64_t number;
};

/*
 * No area is EPT_FILE_SHARED, whose file both would write to: the caller has seen to that, but
 * for ept_space_fork_frozen(), which never writes. -EINVAL (not held by this thread), -ESHUTDOWN
 * (stopping, or failed), -ENOMEM, -EBUSY (128 forks of a space with a swap file are not done yet).
 */
int ept_space_fork_begin(struct ept_space *space, struct ept_fork *fork);
void ept_space_fork_parent(struct ept_space *space);
void ept_space_fork_done(struct ept_space *space, struct ept_fork *fork);
/*
 * Instead of ept_space_fork_done(), when the child is gone, and what was forked from it, too:
 * what is cached of files can be given back again. One that lives keeps what was cached then.
 */
void ept_space_fork_gone(struct ept_space *space, struct ept_fork *fork);

/*
 * Make the space this process's own. @swap: a new, empty file where the parent has one,
 * else NULL; what is in the parent's is copied. Async-signal-safe. Opens a userfaultfd
 * by a descriptor that the parent kept, and /proc/self/pagemap where the parent had it
 * (without it: nothing is told of what is resident). On an error the child has to end;
 * the parent is well. -EINVAL (no swap file), -EPERM, -EMFILE, -ENOMEM, the files' errors.
 */
int ept_space_fork_child(struct ept_space *space, struct ept_fork *fork,
			 const struct ept_swap_file *swap);
/* Messages say @name from now on. -ENOMEM. */
int ept_space_rename(struct ept_space *space, const char *name);
/* Start its threads; messages say @name from now on. The space is released. */
int ept_space_fork_start(struct ept_space *space, const char *name);

/*
 * Instead of starting its threads, in a child of one thread: what memory holds is brought in,
 * checked, and becomes a file that further children share; this process forks them as one that
 * holds its space (it does, from here on), and changes nothing any more. -EINVAL (not held, or
 * under a memory limit), -ENOMEM, -ENOSPC, what bringing in fails with: the child has to end.
 */
int ept_space_template(struct ept_space *space);

/*
 * Open the page map @path, /proc/PID/pagemap: a descriptor, or a negative errno. Which host pages
 * there are it does not say, even if root opens it (proc_pid_pagemap(5)): a guest that broke out
 * could use that.
 */
int ept_pagemap_open(const char *path);

/*
 * Instead of both: the child only writes a snapshot of the space (snapshot.h) and ends.
 * @pagemap_fd: the child's own /proc/self/pagemap, the space's from now on; -1: it may open
 * none, and looks at each page instead. Opens nothing. It has no ept_space_failure_fd(): the
 * one that it inherits is its parent's.
 */
void ept_space_fork_frozen(struct ept_space *space, int pagemap_fd);

/* --- touching guest memory from the monitor -------------------------------- */

/*
 * Resolve [@gpa, @gpa + @len) for @access as a fault would, and describe it as
 * at most @max iovecs (host-contiguous runs merged). On success the memory may
 * be read (and written, for EPT_WRITE) through them until ept_space_stop() is
 * called. Must not be called by a fault thread. In an area of EPT_ENGINE_KERNEL a
 * file that is truncated later takes its pages away: touching one is SIGBUS, which
 * ept_space_bus_error() makes good, or EFAULT of a system call.
 * Returns the number of iovecs (0 for @len 0), or -EFAULT (some of it is no
 * guest memory, or a write to a read-only area), -EIO (object unreadable),
 * -ENOMEM, -E2BIG (more than @max runs), -ESHUTDOWN (stopping, or a page was lost).
 */
ssize_t ept_map(struct ept_space *space, gpa_t gpa, uint64_t len, enum ept_access access,
		enum ept_origin origin, struct iovec *iov, size_t max);

/*
 * Copy out of or into guest memory; errors as ept_map. -ESHUTDOWN also where the space began
 * to be stopped meanwhile: what was copied is undefined then.
 */
int ept_read(struct ept_space *space, gpa_t gpa, void *buf, size_t len, enum ept_origin origin);
int ept_write(struct ept_space *space, gpa_t gpa, const void *buf, size_t len,
	      enum ept_origin origin);

/*
 * Count an access that the hardware reported outside any slot or as a write to
 * a read-only slot, and say which it was: EPT_CASE_NO_AREA or
 * EPT_CASE_RO_WRITE. Memory that it could not give (KVM's emulator takes a page of a
 * file that the host kernel maps, and that is gone, for a device) fails the space:
 * EPT_CASE_IO_ERROR.
 */
enum ept_case ept_stray(struct ept_space *space, gpa_t gpa, enum ept_access access);

/*
 * Ask the host's kernel for the page at @gpa, where it brings in a file's by itself: false, and
 * the space has failed (EPT_CASE_IO_ERROR), if it does not come. True of all other pages.
 * Waits for storage.
 */
bool ept_kernel_gives(struct ept_space *space, gpa_t gpa);

/*
 * Give what of [@gpa, @gpa + @size) is anonymous memory back: it reads as zero
 * afterwards. The rest, and what is no memory at all, stays as it is. *@given: the
 * bytes that were. -EINVAL (no whole pages), -ESHUTDOWN, or the host's refusal.
 */
int ept_discard_anonymous(struct ept_space *space, gpa_t gpa, uint64_t size, uint64_t *given);

/*
 * Write the dirty pages of @area's shared file back and make them durable
 * (write-protect, pwrite, fdatasync). Returns 0 when everything written by the
 * guest before the call is on disk; on error (-EIO, -ENOSPC, ...) the pages
 * stay dirty and a later call tries again. Other area kinds: 0.
 */
int ept_area_sync(struct ept_area *area);

/* --- failure ----------------------------------------------------------------- */

struct ept_failure {
	enum ept_case kase;
	gpa_t gpa;
	int error;	   /* negative errno */
	char message[384]; /* one line: what, which VM and area, which file and byte, what to do */
};

/* An eventfd that becomes readable when the space has failed. Owned by the space. */
int ept_space_failure_fd(const struct ept_space *space);

/* The first failure, or NULL. Valid until the space is destroyed. Not by signal handlers. */
const struct ept_failure *ept_space_failure(struct ept_space *space);

/*
 * What a handler of SIGBUS asks first. True: guest memory lies at the address, the
 * host had no page for it (a file that the kernel's engine maps shrank, memory is
 * damaged), and what touched it may go on: a page of zeros is there now, the space has
 * failed, and every later call that touches guest memory is -ESHUTDOWN, so that
 * the zeros go nowhere. False: it is not this space's. Async-signal-safe; @space has
 * been started and is not destroyed meanwhile.
 */
bool ept_space_bus_error(struct ept_space *space, const siginfo_t *info);

/*
 * A page of an object that could not be read, under EPT_IO_POISON: a vCPU that
 * touches it gets SIGBUS (BUS_MCEERR_AR, the page's address) out of KVM_RUN, a
 * call here -EIO. It stays poisoned: the object is not asked again. So does anonymous
 * memory whose bytes reclaim cannot give back, until ept_discard_anonymous(). Only areas
 * of the handler engine, from Linux 6.6 on.
 */
bool ept_space_can_poison(const struct ept_space *space);
/* Is the page at @gpa poisoned? */
bool ept_poisoned(const struct ept_space *space, gpa_t gpa);
/* The first page that was, as a failure that did not stop the space; or NULL. */
const struct ept_failure *ept_space_first_poison(const struct ept_space *space);
/* What lies at @gpa, for a message: "byte N of FILE for AREA", at most @size bytes. */
void ept_describe(const struct ept_space *space, gpa_t gpa, char *text, size_t size);

/* Where @hva, an address in one of the slots, is for the guest; false: in none. */
bool ept_gpa_of(const struct ept_space *space, const void *hva, gpa_t *out);

/*
 * Look at what no fault would tell of: a fault that takes longer than it may (error
 * -ETIMEDOUT), a fault thread that ended (-ESRCH). Called by the monitor every
 * EPT_LOOK_NS or more often, also while another thread is in ept_space_stop(), and
 * never waits for storage. A finding fails the space; true, whatever failed it first.
 */
bool ept_space_check(struct ept_space *space);

/*
 * Has a file shrunk under an area? That fails the space. A thread of the space's own
 * looks twice a second: a file server that is gone does not tell a size either, and
 * whoever asks waits as long as for a page.
 */
void ept_space_check_files(struct ept_space *space);

/*
 * In a template's clone nobody does so before this is called, from a thread that may make
 * another: there may be a thousand, which do nothing. 0, -EAGAIN.
 */
int ept_space_watch_files(struct ept_space *space);

#define EPT_LOOK_NS 500000000UL
/*
 * The time from *@looked, the last look, to @now (CLOCK_MONOTONIC, ns), EPT_LOOK_NS at
 * most; *@looked becomes @now. Who looks later than that was stopped (SIGSTOP, a frozen
 * cgroup), and with it all threads whose progress it looks for.
 */
uint64_t ept_watched(uint64_t *looked, uint64_t now);

/* --- what the host offers --------------------------------------------------- */

struct ept_host {
	int userfaultfd_error; /* 0, or why it cannot be opened */
	uint64_t features;     /* UFFD_FEATURE_* bits */
	bool needs_privilege;  /* only with CAP_SYS_PTRACE, /dev/userfaultfd or the sysctl */
	bool usable;	       /* every feature the handler engine needs is there */
	int uring_error;       /* 0, or why io_uring cannot be used: read-ahead does without */
};

void ept_host_probe(struct ept_host *out);

/* The name of feature bit @bit (0..63), or NULL if this build knows none. */
const char *ept_host_feature_name(unsigned bit);

#endif
