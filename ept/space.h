/* What a space and an area are made of; docs/locking.md says which lock guards what. */
#ifndef FOAL_EPT_SPACE_H
#define FOAL_EPT_SPACE_H

#include "ept/arena.h"
#include "ept/debt.h"
#include "ept/ept.h"
#include "ept/fault_log.h"
#include "ept/hold.h"
#include "ept/install.h"
#include "ept/ledger.h"
#include "ept/mirror.h"
#include "ept/object.h"
#include "ept/prefetch.h"
#include "ept/reader.h"
#include "ept/reclaim.h"
#include "ept/sample.h"
#include "ept/stream.h"
#include "ept/watch.h"

#include <sys/mman.h>

#define EPT_AROUND_DEFAULT 16
#define EPT_AROUND_MAX	   EPT_TABLE_SIZE

/*
 * OWN: a private file whose pages are the area's own from the start, for huge pages.
 * LAYERS: so are those of a snapshot.
 */
enum ept_kind {
	EPT_KIND_ANON,
	EPT_KIND_RO,
	EPT_KIND_COW,
	EPT_KIND_SHARED,
	EPT_KIND_OWN,
	EPT_KIND_OWN_RO,
	EPT_KIND_LAYERS,
	EPT_NR_KINDS
};

/* How areas of a kind are mapped here; what their faults mean is the table of fault.c. */
struct ept_area_kind {
	int prot, map_flags; /* mmap(2) */
	enum ept_backing backing;
	bool read_only; /* for the guest and its devices */
};

extern const struct ept_area_kind ept_area_kinds[EPT_NR_KINDS]; /* area.c */

struct ept_area {
	struct ept_space *space;
	char *name;
	size_t index;	     /* in ept_space.areas; set by ept_space_start() */
	uint64_t start, end; /* guest-physical */
	enum ept_kind kind;
	enum ept_engine engine; /* HANDLER or KERNEL */
	struct ept_object *obj; /* NULL: anonymous */
	char *hva;		/* of start; set by ept_space_start() */
	uint64_t resident;	/* pages installed, atomic */
	uint64_t dirty;		/* pages, atomic */
	bool wants_huge;	/* told the host so; atomic */
	uint64_t huge;		/* leaves that are one huge page, atomic */
	bool template;		/* its pages that were not written since are a template's file, */
	int template_fd;	/* that one; */
	bool gave_back;		/* atomic: but for some that read as zeros */
	bool read_as_written;	/* a dirty page may be one that was only read; atomic */
	struct ept_ledger ledger;
	struct ept_streams reads, writes; /* of a file */
	struct ept_area *next_of_object;  /* under the object's `users` */
	struct ept_lead *lead; /* of a file that the host kernel maps as it is; else NULL */
};

/* Areas that lie next to each other and have the same rights share a reservation. */
struct ept_reservation {
	struct ept_slot slot;
	void *base; /* what mmap gave; the slot lies in it at the gpa's offset in 2 MiB */
	size_t size;
};

/* One vCPU as its fault thread sees it. */
struct ept_vcpu {
	pid_t tid;		     /* 0: not bound; atomic */
	int cpu;		     /* -1: unknown; atomic */
	int stat_fd;		     /* the thread's /proc stat, or -1; atomic */
	struct ept_vcpu_stats stats; /* atomic */
	struct ept_sampling sampling;
};

struct ept_fault_thread {
	struct ept_space *space;
	unsigned index;
	pthread_t thread;
	bool joined; /* under life_lock */
	/* its own: */
	int cpu;	 /* where it asked to run, -1: anywhere */
	unsigned events; /* it resolved */
	uint64_t looked; /* where its vCPU runs: when, ept_now() */
};

enum ept_life { EPT_LIFE_NEW, EPT_LIFE_STARTED, EPT_LIFE_DYING, EPT_LIFE_STOPPED };

struct ept_space {
	struct ept_config config;
	char *name;
	enum ept_life life; /* atomic; changed under life_lock */
	pthread_mutex_t life_lock;

	struct ept_area **areas; /* ascending; fixed by ept_space_start() */
	size_t nr_areas;
	struct ept_reservation *reservations;
	size_t nr_reservations;

	struct ept_arena arena;
	struct ept_mirror mirror;
	struct ept_installer installer;
	struct ept_ledger stray; /* what hit no area */
	struct ept_reclaim reclaim;

	struct ept_vcpu *vcpus;
	struct ept_fault_thread *threads;
	unsigned nr_threads;
	struct ept_reader *reader;     /* of its file areas; NULL: nothing is read ahead */
	uint64_t reader_stops;	       /* since when a stop waits for it, for the prefetch
					  or for reclaim, ept_now(); 0: not; atomic */
	struct ept_staging *staging;   /* NULL: the handlers bring in 4 KiB only */
	struct ept_governor *governor; /* NULL: none; set by ept_space_start() */
	struct ept_file_watch files;   /* watch.h */
	struct ept_prefetch prefetch;
	bool of_template;		 /* it, or what it was forked from, was made one */
	struct ept_reset *reset;	 /* reset.h; NULL: it has no reset point; atomic */
	int pagemap_fd;			 /* of this process; -1: it could not be opened */
	int stop_fd;			 /* readable: fault threads end */
	int trace_fd;			 /* trace.h; -1: none */
	int trace_error;		 /* errno of its first write that failed; atomic */
	uint64_t events[EPT_NR_ORIGINS]; /* atomic */
	struct ept_fault_log log;	 /* fault_log.h */
	uint64_t ended[EPT_NR_ORIGINS];	 /* of these, done with; atomic */
	uint64_t strays[EPT_NR_CASES];	 /* accesses of vCPUs that came as exits; atomic */
	uint64_t ending;		 /* of both, that began to be counted as a case; atomic */
	struct ept_debt debt;		 /* debt.h; atomic */

	/*
	 * Set by ept_space_bus_error(): 1 + the gpa of a page that the host took
	 * away, and the negative errno it stands for; atomics.
	 */
	uint64_t lost;
	int lost_error;

	pthread_mutex_t failure_lock;
	struct ept_failure failure; /* written once, before failed is set */
	bool failed;
	int failure_fd;
	pthread_mutex_t watch_lock;
	struct ept_pending *pending;  /* faults under way */
	struct ept_pending *portions; /* what is brought in behind faults */
	uint64_t watch_looked;	      /* at them: ept_now() of the last time */
	enum ept_held held;	      /* hold.c; written under watch_lock, atomic */
	pthread_t holder;
	bool forked;		       /* shares pages with other processes, perhaps
					  with ones that are gone; set in the pause of a fork */
	unsigned working;	       /* portions of its threads' work under way */
	pthread_cond_t idle, released; /* for the holder; for who waits at the gate */
	struct ept_failure poison;     /* written once, before poisoned is set */
	bool poisoned;
};

static inline bool ept_dying(const struct ept_space *space)
{
	return __atomic_load_n(&space->life, __ATOMIC_ACQUIRE) >= EPT_LIFE_DYING;
}

/* Has it failed (ept_space_fail())? The VM ends, and what it has under way is let end first. */
static inline bool ept_failed(const struct ept_space *space)
{
	return __atomic_load_n(&space->failed, __ATOMIC_ACQUIRE);
}

/* Was a page taken away that somebody touched? What is there now is not the guest's. */
static inline bool ept_lost(const struct ept_space *space)
{
	return __atomic_load_n(&space->lost, __ATOMIC_ACQUIRE) != 0;
}

static inline bool ept_handler_engine(const struct ept_area *area)
{
	return area->engine == EPT_ENGINE_HANDLER;
}

/* Do our handlers serve any area of it? */
static inline bool ept_has_handlers(const struct ept_space *space)
{
	for (size_t i = 0; i < space->nr_areas; i++)
		if (ept_handler_engine(space->areas[i]))
			return true;
	return false;
}

static inline char *ept_hva(const struct ept_area *area, uint64_t gpa)
{
	return area->hva + (gpa - area->start);
}

/* May the guest write to it? */
static inline bool ept_area_writable(const struct ept_area *area)
{
	return !ept_area_kinds[area->kind].read_only;
}

/* Are its pages mapped from the object's cache? */
static inline bool ept_area_cached(const struct ept_area *area)
{
	return ept_area_kinds[area->kind].backing != EPT_BACKING_ANON;
}

/* Bytes of its object that @area covers. */
static inline uint64_t ept_area_file_bytes(const struct ept_area *area)
{
	uint64_t size = area->end - area->start;

	return size < area->obj->length ? size : area->obj->length;
}

/* area.c: the area that holds @gpa, or NULL. After ept_space_start(): no lock. */
struct ept_area *ept_area_find(const struct ept_space *space, uint64_t gpa);
void ept_area_free(struct ept_area *area);

/* Take back that @leaf is one huge page: a part of it goes. The leaf is locked. */
void ept_area_split(struct ept_area *area, struct ept_leaf *leaf);

/* Change one entry, and @area's counts with it. The leaf is locked. */
void ept_area_set_pte(struct ept_area *area, struct ept_leaf *leaf, unsigned index,
		      enum ept_pte pte);
void ept_area_set_ptes(struct ept_area *area, struct ept_leaf *leaf, unsigned first, unsigned end,
		       enum ept_pte pte);
void ept_area_put_pte(struct ept_area *area, struct ept_leaf *leaf, unsigned index,
		      enum ept_pte pte, unsigned age, uint64_t value);

/*
 * Is what it holds part of a snapshot? Who shares a file has its pages there; who only
 * reads it, too.
 */
static inline bool ept_area_saved(const struct ept_area *area)
{
	return area->kind != EPT_KIND_SHARED && area->kind != EPT_KIND_RO &&
	       area->kind != EPT_KIND_OWN_RO;
}

/* access.c: what a touch of one page by the monitor does first; 0 or ept_map()'s errors. */
int ept_touch_page(struct ept_space *space, gpa_t gpa, enum ept_access access,
		   enum ept_origin origin);

/* area.c: its pages come from @obj, layers, from now on; before ept_space_start(). -EINVAL. */
int ept_area_replace(struct ept_area *area, struct ept_object *obj);

/* template.c: the page that a template's area began with at @gpa. 0 or a negative errno. */
int ept_template_page(const struct ept_area *area, uint64_t gpa, char *to);
/* template.c: the page that it has there now; nothing of the file is made for it. As that. */
int ept_template_now(const struct ept_area *area, uint64_t gpa, char *to);
/* template.c: [gpa, end) of an area that is a template's reads as zeros. */
int ept_template_discard(struct ept_area *area, uint64_t gpa, uint64_t end);

/* map.c: reserve, map and register what the areas say; undo it. */
int ept_map_areas(struct ept_space *space);
void ept_unregister_areas(struct ept_space *space);
void ept_unmap_areas(struct ept_space *space);

/* kernel_engine.c: can the host map @obj as it is, so that its page cache is shared? */
bool ept_kernel_maps(const struct ept_object *obj);
/* Map one area so that the host kernel resolves its faults. */
int ept_kernel_map_area(struct ept_area *area);
uint64_t ept_kernel_resident(const struct ept_area *area);
/* Bytes of it that are private copies. */
uint64_t ept_kernel_copied(const struct ept_area *area);

/* space.c: start what works for a space whose areas are mapped. */
int ept_threads_start(struct ept_space *space);

/* fault_thread.c */
int ept_fault_threads_start(struct ept_space *space);
void ept_fault_threads_stop(struct ept_space *space);
/* One that has ended although the space was not stopped, or -1. */
int ept_fault_threads_dead(struct ept_space *space);

/* governor.c: 2 MiB pages where the host kernel's engine is touched densely. */
int ept_governor_start(struct ept_space *space);
void ept_governor_stop(struct ept_space *space);
void ept_governor_free(struct ept_governor *governor);
/* Drop [gpa, end) of @area, which the host kernel backs; not soon huge again. */
int ept_governor_give_back(struct ept_area *area, uint64_t gpa, uint64_t end);

/* failure.c: record the first failure and tell whoever waits on the eventfd. */
void ept_space_fail(struct ept_space *space, enum ept_case kase, gpa_t gpa, int error,
		    const char *fmt, ...) __attribute__((format(printf, 5, 6)));
/* Record the first page that is poisoned. No leaf's lock is held: the file's size is asked for. */
void ept_area_note_poison(struct ept_area *area, gpa_t gpa, int error);
/* The same for an object of @area that did not give (or take) the byte at @gpa. */
void ept_area_fail(struct ept_area *area, gpa_t gpa, int error, const char *what);

#endif
