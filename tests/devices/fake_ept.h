/*
 * Guest memory for the tests of devices/: a flat range from 0, with a hole, a
 * read-only range and failures where a test wants them. Stands in for ept/'s
 * functions that devices call.
 */
#ifndef FOAL_TESTS_FAKE_EPT_H
#define FOAL_TESTS_FAKE_EPT_H

#include "ept/ept.h"
#include "ept/stats.h"

struct fake_range {
	uint64_t from, to;
};

struct ept_space {
	uint8_t *bytes;
	uint64_t size;
	uint64_t run; /* host-contiguous runs end at multiples of this */
	struct fake_range hole, read_only, failing;
	int failing_with; /* negative errno */
	/* Called before a range is mapped; may block. */
	void (*on_map)(struct ept_space *space, gpa_t gpa, uint64_t len);
	void *on_map_arg;
	/* What was discarded; not possible in @file. */
	struct fake_range file, discarded[16];
	unsigned nr_discarded;
};

struct ept_area {
	struct ept_area_info info;
	int sync_result;
	unsigned syncs;
};

struct ept_space *fake_space(uint64_t size);
void fake_space_free(struct ept_space *space);

#endif
