/* The kinds of thread that a run has, each with a seccomp filter of its own. */
#ifndef FOAL_VMM_THREAD_KINDS_H
#define FOAL_VMM_THREAD_KINDS_H

#define THREAD_KINDS(X) \
	X(MAIN, "main") \
	X(VCPU, "vcpu") \
	X(VCPU_STATE, "vcpu_state") /* with a reset port, or made ahead: loads state itself */ \
	X(FAULT, "fault") \
	X(READ, "read") \
	X(DEVICE, "device") \
	X(CONTROL, "control") \
	X(FORK, "fork")

enum thread_kind {
#define X(id, name) THREAD_##id,
	THREAD_KINDS(X)
#undef X
	    NR_THREAD_KINDS
};

#endif
