/* What both test programs of ept/ need: files with known bytes, a space, counts. */
#ifndef FOAL_TESTS_EPT_UTIL_H
#define FOAL_TESTS_EPT_UTIL_H

#include "ept/fault.h"
#include "ept/space.h"
#include "ept/stats.h"
#include "tests/ept/inject.h"

#include <check.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#define PAGE	((uint64_t)EPT_PAGE_SIZE)

/*
 * What touches memory as a vCPU does: the host's page tables order that with fault threads and
 * reclaim, which ThreadSanitizer does not see. It is slow, too, where it looks at each byte.
 */
#define AS_VCPU __attribute__((no_sanitize("thread")))

/* A file on disk that is gone when closed; byte i holds pattern_byte(i). */
int temp_file(uint64_t size);
uint8_t pattern_byte(uint64_t i);

/* Do @len bytes at @p equal the file's from byte @at? */
bool has_pattern(const volatile void *p, uint64_t at, size_t len);
bool file_has(int fd, uint64_t at, const void *bytes, size_t len);

/* One space of one area at gpa 0: @size bytes of @fd from @offset, or anonymous (fd -1). */
struct vm {
	struct ept_space *space;
	struct ept_area *area;
	char *hva;
	uint64_t size;
	int fd; /* the file of its own that vm_destroy() closes; -1: none */
};

/* One of any object (NULL: anonymous), which is the space's too; not started yet. */
struct vm vm_begin(const struct ept_config *config, const char *name, struct ept_object *obj,
		   uint64_t size);
void vm_start(struct vm *vm);

struct vm vm_create(const struct ept_config *config, int fd, uint64_t offset, uint64_t size,
		    enum ept_file_mode mode);
struct vm vm_anon(uint64_t size);
/* Of a new temp_file(). */
struct vm vm_file(uint64_t size, enum ept_file_mode mode);
struct vm vm_file_with(const struct ept_config *config, uint64_t size, enum ept_file_mode mode);
void vm_destroy(struct vm *vm);

/* The guest's page @page, to touch. */
static inline volatile char *at(const struct vm *vm, uint64_t page)
{
	return vm->hva + page * PAGE;
}

/* What the handlers make of a touch of page @page; *@res says how. */
enum ept_result fault_as(const struct vm *vm, uint64_t page, enum ept_access access,
			 enum ept_origin origin, unsigned flags, struct ept_resolution *res);

/* The first touches of a file's page that bring it in. */
#define FIRST_TOUCHES 5
extern const struct first_touch {
	enum ept_file_mode mode;
	enum ept_access access;
} first_touches[FIRST_TOUCHES];

/* Does a device or the loader wait for a page that somebody else brings in? */
bool waits_in_transit(const struct vm *vm);

/* Does the thread of this process sleep? */
bool is_asleep(pid_t tid);

/* Give back @pages pages from page @first on; all are anonymous. */
void discard(const struct vm *vm, uint64_t first, uint64_t pages);

/* Set before vm_create(): as on kernels that cannot CONTINUE write-protected (before 6.4). */
extern bool vm_without_atomic_protect;
/* The same for kernels that cannot MOVE (before 6.8). */
extern bool vm_without_move;

extern const struct ept_config one_thread;

/* Counters of area 0 (or of what hit no area). */
struct ept_case_stats case_stats(const struct vm *vm, enum ept_case c);
uint64_t faults(const struct vm *vm, enum ept_case c);
struct ept_area_info area_info(const struct vm *vm);

/* Bytes that came from area 0's file so far, by faults and by reading ahead. */
uint64_t file_bytes_read(const struct vm *vm);
struct ept_ahead_stats ahead_stats(const struct vm *vm);

/* Every fault of every area that came as an event, and the events read. */
uint64_t event_faults(const struct ept_space *space);
uint64_t events(const struct ept_space *space);

/* Fail the test unless area 0 saw exactly this many faults of case @c. */
#define assert_faults(vm, c, n) ck_assert_uint_eq(faults(vm, c), n)

#endif
