/*
 * Which instruction of the guest made a fault: of every Nth fault of a vCPU its thread is kicked
 * out of KVM_RUN before the page goes in, and says where it stands (docs/trace.md). Here it is
 * decided which, and the sample kept; the kick is the caller's (ept_config.kick). Without a lock.
 */
#ifndef FOAL_EPT_SAMPLE_H
#define FOAL_EPT_SAMPLE_H

#include "ept/record.h"

struct fault;

/* Of one vCPU; all atomic. */
struct ept_sampling {
	uint64_t faults, kicks, taken, refaults; /* struct ept_sampling_stats */
	uint64_t kicked;			 /* the event that it was last kicked for; 0: none,
						    or another came since */
	int state;				 /* of what it is asked for: enum in sample.c */
	struct ept_sample asked;
};

/* The handler of @f's case is next; the leaf is locked, so who is to be kicked waits for it. */
void ept_sample_fault(struct fault *f);

#endif
