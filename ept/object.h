/*
 * An object: a range of a file with its page cache.
 *
 * The cache is a sealed memfd of the object's size, filled by pread as pages
 * are asked for; areas map it (so a page read once serves every area and every
 * VM), and the monitor maps it too, to copy pages and to write them back. The file
 * itself is never mapped where a guest could reach it: truncating it cannot
 * take pages away, it only makes a later read come short.
 *
 * Page numbers here count from the object's first byte, not from the file's.
 */
#ifndef FOAL_EPT_OBJECT_H
#define FOAL_EPT_OBJECT_H

#include "ept/ept.h"
#include "ept/stats.h"

#include <pthread.h>

struct ept_reader;

/* A read under way: of the thread that does it, or of a reader. */
struct ept_object_read {
	uint64_t first, end; /* pages */
	struct ept_object_read *next;
	struct ept_reader *reader; /* NULL: the thread does it that waits for it */
};

struct ept_layers;

struct ept_object {
	unsigned refs;
	struct ept_layers *layers; /* of a snapshot (object_snapshot.h), or NULL: a file */
	int fd;			   /* of a file; else -1 */
	char *name;
	uint64_t offset; /* of the object's byte 0 in the file */
	uint64_t length; /* bytes */
	enum ept_file_mode mode;
	bool block_device;
	bool local;	    /* no server is behind it, as far as is known */
	uint64_t file_size; /* when the object was made */
	int direct_fd;	    /* the same file past the host's page cache, or -1 */
	bool no_direct;	    /* it was refused; atomic */
	/* Pages that the host reads around a miss; known with the cache, or set before. */
	uint64_t host_ahead;

	int memfd;   /* the cache, -1 until ept_object_cache() */
	char *cache; /* the monitor's view of it: source of copies and write-back */
	/* After a fork (object_fork.c); changed only in the pause of one. */
	uint64_t *frozen; /* one bit a page: is not given back, or NULL: the freezes together */
	struct ept_freeze *freezes;
	char *base; /* a forked child's: what its areas map, of which it uses what is frozen */
	uint64_t *cached;   /* one bit a page; changed under lock, read without (object_drop.c) */
	uint64_t *ever;	    /* one bit a page: was cached once; as cached, but never cleared */
	uint64_t nr_cached; /* pages, atomic */
	uint64_t nr_coming; /* the same: being read ahead */
	pthread_mutex_t users;	/* areas */
	struct ept_area *areas; /* that use it, in any space */

	pthread_mutex_t lock; /* cached (writers), reads */
	pthread_cond_t read_done;
	struct ept_object_read *reads; /* reads under way; no two overlap */
	/* One bit a page: read ahead, and no fault has taken it yet; atomic. */
	uint64_t *ahead;
	struct ept_ahead_stats ahead_stats; /* atomic */

	pthread_mutex_t sync_lock; /* one write-back at a time; unsure */
	/* One bit a page: written to the file, not known to be on disk; NULL until needed. */
	uint64_t *unsure;
};

static inline uint64_t ept_object_pages(const struct ept_object *obj)
{
	return (obj->length + EPT_PAGE_SIZE - 1) >> EPT_PAGE_SHIFT;
}

/* Bitmaps, a bit a page: the bits of [@page, @end) in @page's word; the next word's first page. */
static inline uint64_t ept_word_bits(uint64_t page, uint64_t end)
{
	uint64_t low = page % 64, count = end - page;

	return (count >= 64 ? ~0UL : (1UL << count) - 1) << low;
}

static inline uint64_t ept_word_end(uint64_t page)
{
	return (page / 64 + 1) * 64;
}

/* Where the pages that came whole end: the object's last one is whole with its last byte. */
static inline uint64_t ept_object_read_whole(const struct ept_object *obj,
					     const struct ept_object_read *read, size_t done)
{
	uint64_t to = (read->first << EPT_PAGE_SHIFT) + done;

	return to == obj->length ? read->end : to >> EPT_PAGE_SHIFT;
}

static inline bool ept_object_frozen(const struct ept_object *obj, uint64_t page)
{
	return obj->frozen && obj->frozen[page / 64] >> (page % 64) & 1;
}

/* Is the cached @page not in what areas map? Then they get copies of it. */
static inline bool ept_object_aside(const struct ept_object *obj, uint64_t page)
{
	return obj->base && !ept_object_frozen(obj, page);
}

/* The bytes of the cached @page. */
static inline const char *ept_object_bytes(const struct ept_object *obj, uint64_t page)
{
	const char *view = obj->base && ept_object_frozen(obj, page) ? obj->base : obj->cache;

	return view + (page << EPT_PAGE_SHIFT);
}

struct ept_object *ept_object_ref(struct ept_object *obj);

/* An object that is no file, of @length bytes; it owns @layers. -ENOMEM: it does not. */
int ept_object_of_layers(struct ept_layers *layers, const char *name, uint64_t length,
			 struct ept_object **out);
void ept_layers_free(struct ept_layers *layers);

/* Make the cache, once; any number of callers. 0, -ENOMEM, -EMFILE. */
int ept_object_cache(struct ept_object *obj);

/* Its memfd and the view of it; memfd_create(2) and mmap(2) alone. */
int ept_object_new_cache(struct ept_object *obj);

/* What was cached when a process forked. */
struct ept_freeze {
	struct ept_freeze *next;
	uint64_t fork;	  /* its number; 0: of children that live for as long as they like */
	uint64_t pages[]; /* one bit each */
};

/*
 * object_fork.c. Before fork number @fork: what is cached stays, -ENOMEM. Then one of the
 * others: it stays for good, or its child is gone, and it need not. In the child: the object
 * becomes its own.
 */
int ept_object_freeze(struct ept_object *obj, uint64_t fork);
void ept_object_keep_frozen(struct ept_object *obj, uint64_t fork);
void ept_object_thaw(struct ept_object *obj, uint64_t fork);
int ept_object_adopt(struct ept_object *obj);

/* Is @page in the cache? True stays true while the leaf's lock of an area at it is held. */
bool ept_object_cached(const struct ept_object *obj, uint64_t page);

/*
 * Bring @page into the cache, and with the same read what is missing next to
 * it within [@first, @end). Waits where another thread reads @page already, so
 * no page is read twice. *@bytes grows by what this call read.
 * 0, -EIO or the file system's error (@page could not be read, whatever became
 * of its neighbours), -ENOMEM.
 */
int ept_object_fill(struct ept_object *obj, uint64_t page, uint64_t first, uint64_t end,
		    uint64_t *bytes);

/*
 * Where to read object bytes [@from, @to) from: the file past the host's page
 * cache if that has none of them and the range is of whole pages, else through it.
 * *@cached: it has all of them, as far as is known.
 */
int ept_object_read_fd(const struct ept_object *obj, uint64_t from, uint64_t to, bool *cached);

/* Pages of bytes [@from, @to) that the host's page cache has; -1: it cannot say (Linux 6.5 can). */
int64_t ept_object_host_cached(const struct ept_object *obj, uint64_t from, uint64_t to);

/*
 * The same by who may not wait. Since Linux 6.13 only who could write to the file is told, and a
 * file system may ask its server who that is: -1 if the file is not known to be local.
 */
int64_t ept_object_host_cached_at_once(const struct ept_object *obj, uint64_t from, uint64_t to);
void ept_object_refuse_direct(struct ept_object *obj);

/* The part of [*@first, *@end) around @page that a fault would read, or that is being read. */
void ept_object_span(struct ept_object *obj, uint64_t page, uint64_t *first, uint64_t *end);

/* All of @len bytes at @byte go into the cache, or none counts: 0, -ENOMEM. */
int ept_object_store(const struct ept_object *obj, const char *buf, size_t len, uint64_t byte);

/* The object's lock is held: does nobody have @page, or read it? */
bool ept_object_wanted(const struct ept_object *obj, uint64_t page);
/* The object's lock is held: @read begins; is not to be; ended with @done bytes in the cache. */
void ept_object_read_begins(struct ept_object *obj, struct ept_object_read *read);
void ept_object_read_forget(struct ept_object *obj, const struct ept_object_read *read);
void ept_object_read_ended(struct ept_object *obj, struct ept_object_read *read, size_t done);

/* object_ahead.c: pages that are read before anybody asks for them. */

/*
 * Have @reader read what is missing of [@first, @end). Waits for nothing: what it
 * has no room for is left to the fault that asks for it, as is what fails.
 */
void ept_object_read_ahead(struct ept_object *obj, struct ept_reader *reader, uint64_t first,
			   uint64_t end);

/* The reader's: @read ended, with @done bytes in the cache. */
void ept_object_ahead_ended(struct ept_object *obj, struct ept_object_read *read, size_t done);

/*
 * The object's lock is held. A fault needs @read now: if its reader has not begun
 * it, it is as if it had never been asked for, and true. Else the fault waits.
 */
bool ept_object_ahead_undone(struct ept_object *obj, struct ept_object_read *read);

/* A fault takes pages [@first, @end): those that were read ahead were not wasted. */
void ept_object_taken(struct ept_object *obj, uint64_t first, uint64_t end);

/*
 * object_drop.c: give pages [@first, @end) of the cache back to the host, but for
 * those that an area maps, in whatever space, or has dirty. No leaf's lock is held.
 * Returns how many were given.
 */
uint64_t ept_object_drop(struct ept_object *obj, uint64_t first, uint64_t end);

/* Who uses it, so that it can be asked what it maps. Called with no lock. */
void ept_object_attach(struct ept_object *obj, struct ept_area *area);
void ept_object_detach(struct ept_object *obj, struct ept_area *area);

/* The file's size now, or a negative errno. */
int64_t ept_object_file_size(const struct ept_object *obj);

/* Bytes of the object's first @size that were ever read. */
uint64_t ept_object_bytes_read(const struct ept_object *obj, uint64_t size);

/*
 * Read or write all of @len bytes at @byte of the object, whatever it takes.
 * The number of bytes done before the file ended or failed; *@err says how (0
 * at the file's end).
 */
size_t ept_object_pread(const struct ept_object *obj, void *buf, size_t len, uint64_t byte,
			int *err);
/* The same from what ept_object_read_fd() said; @buf at a page's boundary. */
size_t ept_object_pread_fd(struct ept_object *obj, int fd, void *buf, size_t len, uint64_t byte,
			   int *err);
size_t ept_object_pwrite(const struct ept_object *obj, const void *buf, size_t len, uint64_t byte,
			 int *err);

#endif
