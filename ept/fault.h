/* One fault: a constant request, a separate resolution. */
#ifndef FOAL_EPT_FAULT_H
#define FOAL_EPT_FAULT_H

#include "ept/ept.h"

#define EPT_FAULT_EVENT	  1U /* a waiter sleeps on it: an event of userfaultfd */
#define EPT_FAULT_PROTECT 2U /* the event is about a page that is there, write-protected */

struct ept_request {
	gpa_t gpa;
	enum ept_access access;
	enum ept_origin origin;
	unsigned flags;
	uint64_t picked_up; /* ept_now() */
	unsigned vcpu; /* 1 + the index of the one whose access it is; 0: not known, or none's */
};

struct ept_resolution {
	enum ept_case kase;
	int error; /* 0 if the access will succeed, else a negative errno */
	bool major;
	bool fallback;		    /* 2 MiB were meant to go in */
	uint64_t installed, around; /* pages */
	uint64_t bytes_read;
	uint64_t granted; /* pages */
	/* ept_now() when what was to be read had come, and when the last page was in; 0: nothing
	 * was read or put in, or the space has no log. */
	uint64_t read_at, put_at;
};

/*
 * Resolve one fault and count it. The one entry for every touch of guest
 * memory: vCPU, device, loader. An event that ends in anything but
 * EPT_RESOLVED leaves its waiter asleep until the space is stopped. Only for
 * the handler engine, after ept_space_start().
 */
enum ept_result handle_ept_fault(struct ept_space *space, const struct ept_request *req,
				 struct ept_resolution *res);

#endif
