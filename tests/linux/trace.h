/*
 * The nested faults that KVM of this host took, each by its address: the trace
 * event kvm:kvm_page_fault, which stands beside the counter pf_taken.
 */
#ifndef TEST_LINUX_TRACE_H
#define TEST_LINUX_TRACE_H

#include <stddef.h>
#include <stdint.h>

/* Bits of the error code of a nested fault, the same for EPT and NPT (KVM's PFERR_*). */
#define TRACE_WRITE    (1u << 1)
#define TRACE_RESERVED (1u << 3)

struct trace_fault {
	uint64_t gpa;
	uint64_t error;
};

/* Trace from here on; ends the test as skipped where there is no tracefs or no right to it. */
void trace_start(void);

/*
 * Stop; the faults since trace_start() in their order, *@count of them. free()
 * the array. Fails the test if the kernel's buffer was too small.
 */
struct trace_fault *trace_stop(size_t *count);

#endif
