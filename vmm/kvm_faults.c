/*
 * perf_event_open() on tracepoints, not BPF: it needs no compiler, no library and no kernel
 * types, fewer rights (CAP_PERFMON, not CAP_BPF too), and gives each sample its time.
 */
#include "vmm/kvm_faults.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/perf_ring.h"
#include "vmm/tracepoint.h"

#define PAGE_MASK (~4095ULL)
#define VCPUS_MAX 1024U

enum point { EXIT, PAGE_FAULT, ENTRY, NR_POINTS };

static const char *const names[NR_POINTS] = {
    [EXIT] = "kvm/kvm_exit",
    [PAGE_FAULT] = "kvm/kvm_page_fault",
    [ENTRY] = "kvm/kvm_entry",
};

enum field { VCPU, RIP, ADDRESS, ERROR_CODE, NR_FIELDS };

struct watched {
	struct perf_ring ring;
	struct kvm_fault fault, before;
	uint64_t exit_at;
	bool pending; /* it faulted, and has not entered again */
};

struct kvm_faults {
	uint64_t ids[NR_POINTS];
	struct tracepoint_field fields[NR_FIELDS]; /* of kvm_page_fault */
	struct tracepoint_field id;		   /* of any */
	struct kvm_fault_counts counts;
	unsigned nr, next; /* threads; the one to be looked at */
	struct watched threads[];
};

/* --- what is watched ------------------------------------------------------------------------ */

/* Is thread @tid of @pid one of foal's vCPUs? */
static bool is_vcpu(pid_t pid, const char *tid)
{
	static const char begins[] = "foal-vcpu/";
	char path[64], name[32] = "";

	snprintf(path, sizeof(path), "/proc/%d/task/%.16s/comm", (int)pid, tid);
	FILE *file = fopen(path, "re");
	if (!file)
		return false;
	bool is = fgets(name, sizeof(name), file) && strncmp(name, begins, strlen(begins)) == 0;
	fclose(file);
	return is;
}

/* Up to @most of them; how many. */
static unsigned find_vcpus(pid_t pid, pid_t *tids, unsigned most)
{
	char path[64];
	unsigned nr = 0;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	DIR *dir = opendir(path);
	for (const struct dirent *entry; dir && nr < most && (entry = readdir(dir));)
		if (is_vcpu(pid, entry->d_name))
			tids[nr++] = (pid_t)strtol(entry->d_name, NULL, 10);
	if (dir)
		closedir(dir);
	return nr;
}

static int read_points(struct kvm_faults *faults, struct foal_error *err)
{
	struct tracepoint_field id = {.name = "common_type"};
	int r = 0;

	faults->fields[VCPU].name = "vcpu_id";
	faults->fields[RIP].name = "guest_rip";
	faults->fields[ADDRESS].name = "fault_address";
	faults->fields[ERROR_CODE].name = "error_code";
	for (int i = 0; r == 0 && i < NR_POINTS; i++) {
		bool fault = i == PAGE_FAULT;
		r = tracepoint_read(names[i], &faults->ids[i], &id, 1);
		if (r == 0 && fault)
			r = tracepoint_read(names[i], &faults->ids[i], faults->fields, NR_FIELDS);
		if (r)
			return error_set(err, FOAL_EXIT_HOST, r,
					 "tracefs (/sys/kernel/tracing): events/%s/format: %s",
					 names[i], r == -EINVAL ? "not understood" : strerror(-r));
	}
	faults->id = id;
	return 0;
}

static int watch(struct kvm_faults *faults, pid_t tid, struct foal_error *err)
{
	struct watched *one = &faults->threads[faults->nr++];
	int r = perf_ring_open(&one->ring, tid, faults->ids, NR_POINTS);

	if (r == -EACCES || r == -EPERM)
		return error_set(err, FOAL_EXIT_HOST, r,
				 "perf_event_open is refused: it needs CAP_PERFMON, or a "
				 "kernel.perf_event_paranoid of -1");
	if (r)
		return error_set(err, FOAL_EXIT_HOST, r, "perf_event_open of thread %d: %s",
				 (int)tid, error_text(r));
	return 0;
}

int kvm_faults_open(pid_t pid, struct kvm_faults **out, struct foal_error *err)
{
	pid_t tids[VCPUS_MAX];
	unsigned nr = find_vcpus(pid, tids, VCPUS_MAX);
	struct kvm_faults *faults = calloc(1, sizeof(*faults) + nr * sizeof(faults->threads[0]));

	*out = NULL;
	if (!faults)
		return error_set(err, FOAL_EXIT_HOST, -ENOMEM, "out of memory");
	int r = read_points(faults, err);
	if (r == 0 && nr == 0)
		r = error_set(err, FOAL_EXIT_HOST, -ESRCH, "process %d has no vCPU thread to see",
			      (int)pid);
	for (unsigned i = 0; r == 0 && i < nr; i++)
		r = watch(faults, tids[i], err);
	if (r)
		kvm_faults_close(faults);
	else
		*out = faults;
	return r;
}

void kvm_faults_close(struct kvm_faults *faults)
{
	for (unsigned i = 0; faults && i < faults->nr; i++)
		perf_ring_close(&faults->threads[i].ring);
	free(faults);
}

/* --- what they tell -------------------------------------------------------------------------- */

static void faulted(const struct kvm_faults *faults, struct watched *one,
		    const struct perf_sample *sample)
{
	uint64_t values[NR_FIELDS];

	for (int i = 0; i < NR_FIELDS; i++)
		values[i] = tracepoint_get(&faults->fields[i], sample->raw, sample->len);
	one->fault = (struct kvm_fault){.at = one->exit_at,
					.gpa = values[ADDRESS],
					.error_code = values[ERROR_CODE],
					.rip = values[RIP],
					.vcpu = (uint16_t)values[VCPU]};
	one->fault.again = one->fault.rip == one->before.rip &&
			   (one->fault.gpa & PAGE_MASK) == (one->before.gpa & PAGE_MASK);
	/* One whose exit was before we looked has no time of its own. */
	one->pending = one->exit_at != 0;
}

/* A sample of @one; true: with it a fault has ended. */
static bool take(struct kvm_faults *faults, struct watched *one, const struct perf_sample *sample)
{
	uint64_t id = tracepoint_get(&faults->id, sample->raw, sample->len);
	bool ended = false;

	if (id == faults->ids[EXIT]) {
		faults->counts.exits++;
		one->exit_at = sample->at;
		one->pending = false;
	} else if (id == faults->ids[PAGE_FAULT]) {
		faulted(faults, one, sample);
	} else if (id == faults->ids[ENTRY]) {
		faults->counts.entries++;
		ended = one->pending;
		one->pending = false;
		one->exit_at = 0;
		one->fault.entry = sample->at;
	}
	if (ended)
		one->before = one->fault;
	return ended;
}

int kvm_faults_next(struct kvm_faults *faults, struct kvm_fault *out)
{
	struct perf_sample sample;

	for (unsigned looked = 0; looked < faults->nr; looked++) {
		struct watched *one = &faults->threads[faults->next];
		while (perf_ring_next(&one->ring, &sample)) {
			if (!take(faults, one, &sample))
				continue;
			*out = one->fault;
			return 1;
		}
		faults->next = (faults->next + 1) % faults->nr;
	}
	return 0;
}

void kvm_faults_counts(const struct kvm_faults *faults, struct kvm_fault_counts *out)
{
	*out = faults->counts;
	for (unsigned i = 0; i < faults->nr; i++)
		out->lost += faults->threads[i].ring.lost;
}
