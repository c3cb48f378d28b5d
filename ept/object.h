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

#include <pthread.h>

struct ept_object {
	unsigned refs;
	int fd;
	char *name;
	uint64_t offset; /* of the object's byte 0 in the file */
	uint64_t length; /* bytes */
	enum ept_file_mode mode;
	bool block_device;
	uint64_t file_size; /* when the object was made */

	int memfd;	  /* the cache, -1 until ept_object_cache() */
	char *cache;	  /* the monitor's view of it: source of copies and write-back */
	uint64_t *cached; /* one bit a page; set under lock, read without, never cleared */

	pthread_mutex_t lock; /* cached (writers), reads */
	pthread_cond_t read_done;
	struct ept_object_read *reads; /* reads under way; no two overlap */

	pthread_mutex_t sync_lock; /* one write-back at a time; unsure */
	/* One bit a page: written to the file, not known to be on disk; NULL until needed. */
	uint64_t *unsure;
};

static inline uint64_t ept_object_pages(const struct ept_object *obj)
{
	return (obj->length + EPT_PAGE_SIZE - 1) >> EPT_PAGE_SHIFT;
}

struct ept_object *ept_object_ref(struct ept_object *obj);

/* Make the cache, once; any number of callers. 0, -ENOMEM, -EMFILE. */
int ept_object_cache(struct ept_object *obj);

/* Is @page in the cache? True stays true. */
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
size_t ept_object_pwrite(const struct ept_object *obj, const void *buf, size_t len, uint64_t byte,
			 int *err);

#endif
