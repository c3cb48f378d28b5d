#include "vmm/trace_kvm.h"

#include <stdlib.h>
#include <string.h>

#include "ept/ept.h"
#include "vmm/vm.h"

#define PAGE_MASK (~4095ULL)
/* Of the fault log that many are remembered, as many as it holds itself. */
#define RECORDS	  (1U << 17)
#define CHAINS	  (1U << 16)
/* Between two faults that were looked at: what a thread takes to record one it has resolved. */
#define WAITING	  (1U << 16)
#define SETTLE_NS 200000000ULL

/* Of KVM, as the VM tells them. */
struct statistics {
	uint64_t taken, fixed, exits;
};

struct noted {
	uint64_t page, at;
	uint64_t before; /* number of the one before it in its chain, from 1 on; 0: none */
};

struct trace_kvm {
	struct kvm_faults *faults; /* NULL: not permitted */
	struct trace_kvm_told told;
	struct statistics start;
	uint64_t records;
	uint64_t chains[CHAINS]; /* numbers of records */
	struct noted noted[RECORDS];
	uint64_t first, last; /* numbers of the faults that wait */
	struct kvm_fault waiting[WAITING];
	struct foal_error missing;
};

/* --- KVM's statistics, which the VM tells ----------------------------------------------------- */

static bool ask_statistics(struct client *client, struct statistics *out)
{
	struct foal_error err = {0};
	json_t *reply = client_ask(client, "stat", NULL, -1, &err);
	const json_t *kvm = json_object_get(json_object_get(reply, "stats"), "kvm");
	bool known = json_is_integer(json_object_get(kvm, "pf_taken"));

	if (known) {
		out->taken = reply_number(kvm, "pf_taken");
		out->fixed = reply_number(kvm, "pf_fixed");
		out->exits = reply_number(kvm, "exits");
	}
	json_decref(reply);
	return known;
}

struct trace_kvm *trace_kvm_open(struct client *client)
{
	struct trace_kvm *kvm = calloc(1, sizeof(*kvm));

	if (!kvm)
		return NULL;
	kvm->told.counted = ask_statistics(client, &kvm->start);
	if (kvm_faults_open(client->pid, &kvm->faults, &kvm->missing)) {
		kvm->told.missing = kvm->missing.text;
		notice("%s: KVM's tracepoints cannot be used, so there are counts only: %s",
		       client->name, kvm->missing.text);
	}
	return kvm;
}

/* KVM's never fall; what a hostile VM tells may, and is no count then. */
static bool take_growth(const struct statistics *from, const struct statistics *to,
			struct trace_kvm_told *told)
{
	if (to->taken < from->taken || to->fixed < from->fixed || to->exits < from->exits)
		return false;
	told->taken = to->taken - from->taken;
	told->fixed = to->fixed - from->fixed;
	told->exits = to->exits - from->exits;
	return true;
}

const struct trace_kvm_told *trace_kvm_end(struct trace_kvm *kvm, struct client *client)
{
	struct trace_kvm_told *told = &kvm->told;
	struct statistics now = {0};

	if (kvm->faults)
		kvm_faults_counts(kvm->faults, &told->counts);
	told->counted = told->counted && client && ask_statistics(client, &now) &&
			take_growth(&kvm->start, &now, told);
	return told;
}

void trace_kvm_close(struct trace_kvm *kvm)
{
	if (kvm)
		kvm_faults_close(kvm->faults);
	free(kvm);
}

/* --- which of the log's records is which fault of KVM's ------------------------------------- */

static unsigned chain_of(uint64_t page)
{
	return (unsigned)((page >> 12) * 0x9e3779b97f4a7c15ULL >> 48) % CHAINS;
}

void trace_kvm_record(struct trace_kvm *kvm, const struct ept_record *record)
{
	uint64_t page = record->gpa & PAGE_MASK, *chain = &kvm->chains[chain_of(page)];

	if (!(record->flags & EPT_RECORD_EVENT))
		return; /* a touch by the monitor: no vCPU left the guest for it */
	kvm->noted[kvm->records++ % RECORDS] = (struct noted){page, record->at, *chain};
	*chain = kvm->records;
}

/* Its event was read between the vCPU's exit and its entry. */
static bool was_handled(const struct trace_kvm *kvm, const struct kvm_fault *fault)
{
	uint64_t page = fault->gpa & PAGE_MASK, number = kvm->chains[chain_of(page)];

	while (number && number + RECORDS > kvm->records) {
		const struct noted *noted = &kvm->noted[(number - 1) % RECORDS];
		if (noted->page == page && noted->at >= fault->at && noted->at <= fault->entry)
			return true;
		number = noted->before;
	}
	return false;
}

void trace_kvm_look(struct trace_kvm *kvm)
{
	while (kvm->faults && kvm->last - kvm->first < WAITING &&
	       kvm_faults_next(kvm->faults, &kvm->waiting[kvm->last % WAITING]))
		kvm->last++;
}

int trace_kvm_next(struct trace_kvm *kvm, bool all, struct kvm_fault *out)
{
	bool full = kvm->last - kvm->first == WAITING;

	if (kvm->first == kvm->last)
		return 0;
	*out = kvm->waiting[kvm->first % WAITING];
	out->handled = was_handled(kvm, out);
	if (!out->handled && !all && !full && now_ns() < out->entry + SETTLE_NS)
		return 0;
	kvm->first++;
	return 1;
}
