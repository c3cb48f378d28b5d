/* A line of JSON for each fault, where a file was given for them (docs/stats.md). */
#ifndef FOAL_EPT_TRACE_H
#define FOAL_EPT_TRACE_H

#include "ept/fault.h"
#include "ept/space.h"

/* Of its configuration; -EMFILE. */
int ept_trace_open(struct ept_space *space);
/* Nothing is traced from here on. Of a forked child: the file is its parent's. */
void ept_trace_close(struct ept_space *space);

/* @area NULL: no area. @ns after it was picked up. Any thread. */
void ept_trace(struct ept_space *space, const struct ept_area *area, const struct ept_request *req,
	       const struct ept_resolution *res, uint64_t ns);

#endif
