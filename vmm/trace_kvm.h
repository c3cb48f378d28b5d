/*
 * foal trace --kvm: the faults that KVM tells of beside those of the fault log, and which of them
 * are the same. One thread. Private to vmm/.
 */
#ifndef FOAL_VMM_TRACE_KVM_H
#define FOAL_VMM_TRACE_KVM_H

#include "vmm/client.h"
#include "vmm/trace_out.h"

struct trace_kvm;

/*
 * Begin for the VM of @client. Where tracing is not permitted that is said once, and what the VM
 * itself asks KVM for (KVM_GET_STATS_FD) is all there will be. NULL: out of memory.
 */
struct trace_kvm *trace_kvm_open(struct client *client);

/* Take what KVM told since. To be called before the fault log is read. */
void trace_kvm_look(struct trace_kvm *kvm);
/* A record of the fault log. */
void trace_kvm_record(struct trace_kvm *kvm, const struct ept_record *record);
/* 1 and the next fault whose record would have come by now (@all: would ever); or 0. */
int trace_kvm_next(struct trace_kvm *kvm, bool all, struct kvm_fault *out);

/* What else is known at the end. @client NULL: the VM is gone. Until trace_kvm_close(). */
const struct trace_kvm_told *trace_kvm_end(struct trace_kvm *kvm, struct client *client);
void trace_kvm_close(struct trace_kvm *kvm); /* NULL is allowed */

#endif
