/* All of a snapshot's memory is checked, also what only who maps the file would see. */
#include "ept/snapshot_read.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* It stands alone, and no extent is packed. Asked once: there may be very many areas. */
static bool can_be_mapped(const struct ept_snapshot *s)
{
	static const uint8_t none[16];
	bool plain = memcmp(s->header.parent, none, sizeof(none)) == 0;

	for (uint64_t i = 0; i < s->header.extents && plain; i++)
		plain = !s->extents[i].flags;
	return plain;
}

/*
 * Who maps the file there has the area's memory. What is not present is a hole then, or zeros. Each
 * has a place of its own, behind @after, that of the area before.
 */
static bool as_it_is(const struct ept_snapshot *s, const struct ept_index_area *area,
		     uint64_t after)
{
	return !(area->flags & EPT_INDEX_AREA_FILE) && area->offset >= after &&
	       area->size <= s->header.memory_bytes &&
	       area->offset <= s->header.memory_bytes - area->size;
}

static bool all_zero(const char *bytes, size_t len)
{
	return !bytes[0] && !memcmp(bytes, bytes + 1, len - 1);
}

/* Bytes [@from, @end) of the memory file, which are no extent's. */
static int check_gap(const struct ept_snapshot *s, uint64_t from, uint64_t end, char *why,
		     size_t size)
{
	char bytes[EPT_EXTENT];

	while (from < end) {
		off_t data = lseek(s->memory_fd, (off_t)from, SEEK_DATA);
		size_t n;

		if (data < 0 && errno == ENXIO)
			return 0; /* holes from there on */
		from = data > (off_t)from ? (uint64_t)data : from;
		if (from >= end)
			return 0;
		n = end - from < sizeof(bytes) ? end - from : sizeof(bytes);
		int err = ept_snapshot_bytes(s, bytes, n, from);
		if (!err && !all_zero(bytes, n))
			err = -EBADMSG;
		if (err) {
			snprintf(why, size,
				 "%s: memory: the %zu bytes at byte %lu, of which the index says "
				 "nothing, %s; take the snapshot again, or use another",
				 s->name, n, (unsigned long)from,
				 err == -EBADMSG ? "are not zeros" : "cannot be read");
			return err;
		}
		from += n;
	}
	return 0;
}

/* Who maps the file finds there what lies between the extents, too. */
static int check_gaps(const struct ept_snapshot *s, char *why, size_t size)
{
	const struct ept_index_extent *e = s->extents, *last = e + s->header.extents;
	bool mapped = can_be_mapped(s);
	uint64_t after = 0;
	int err = 0;

	for (uint64_t i = 0; i < s->header.areas && !err; i++) {
		const struct ept_index_area *a = &s->areas[i];
		uint64_t at = a->gpa, end = a->gpa + a->size;
		bool maps = mapped && as_it_is(s, a, after);

		after = maps ? a->offset + a->size : after;
		for (; e < last && e->gpa < end && !err; e++) {
			if (maps)
				err = check_gap(s, a->offset + (at - a->gpa),
						a->offset + (e->gpa - a->gpa), why, size);
			at = e->gpa + e->pages * EPT_PAGE_SIZE;
		}
		if (maps && !err)
			err =
			    check_gap(s, a->offset + (at - a->gpa), a->offset + a->size, why, size);
	}
	return err;
}

int ept_snapshot_verify(const struct ept_snapshot *s, char *why, size_t size)
{
	char page[EPT_EXTENT] __attribute__((aligned(EPT_PAGE_SIZE)));
	int err;

	for (uint64_t i = 0; i < s->header.extents; i++) {
		err = ept_snapshot_extent(s, &s->extents[i], page);

		if (err) {
			ept_snapshot_say(s, &s->extents[i], err, why, size);
			return err;
		}
	}
	return check_gaps(s, why, size);
}
