/* foal trace: what a VM's fault log holds, or a file that was made of it. Private to vmm/. */
#ifndef FOAL_VMM_REMOTE_TRACE_H
#define FOAL_VMM_REMOTE_TRACE_H

#include "vmm/remote.h"
#include "vmm/trace_out.h"

struct trace_options {
	struct remote_options remote; /* first; its name: of a VM or a file */
	const char *out;	      /* NULL: a table on standard output */
	const struct trace_form *form;
	bool now, has_for, kvm, rips;
	unsigned seconds;	  /* of --for */
	const char *symbols_path; /* NULL: RIPs stay numbers */
	struct symbols *symbols;
};

/* Where the records go. */
struct trace_job {
	const struct trace_form *form;
	struct trace_out *out;
	void *state;
	int signals;			       /* those that end a process, readable here */
	uint64_t records, kvm_faults, samples; /* written */
};

/*
 * Open what @opt says, and have signals wait from here on. FOAL_EXIT_TRACE, -ENOMEM. @meta lives
 * until trace_job_end(), which is to be called once this succeeded.
 */
int trace_job_begin(struct trace_job *job, const struct trace_options *opt,
		    const struct trace_meta *meta, struct foal_error *err);
void trace_job_record(struct trace_job *job, const struct ept_record *record);
/*
 * All records of @reader; on a terminal it is told how far that is. 0, or as trace_next(): what
 * came before is taken. *@caught: a signal ended it, or 0.
 */
int trace_job_read(struct trace_job *job, struct trace_reader *reader, int *caught,
		   struct foal_error *err);
/* -EINTR, and @err says that @caught ended the reading of @path. */
int trace_job_interrupted(const char *path, int caught, struct foal_error *err);
void trace_job_sample(struct trace_job *job, const struct ept_sample *sample);
/* What KVM told, the second once at the end: for forms that have a place for it. */
void trace_job_kvm_fault(struct trace_job *job, const struct kvm_fault *fault);
void trace_job_kvm_end(struct trace_job *job, const struct trace_kvm_told *told);
/* A signal that waits, taken; 0: none does. */
int trace_job_signal(const struct trace_job *job);
/* All is written and has its name, or (not @keep) nothing is left. Says how much it was. */
int trace_job_end(struct trace_job *job, const struct trace_options *opt, const char *vm,
		  struct trace_lost lost, bool keep, struct foal_error *err);

/*
 * remote_log.c: ask for the fault log, and open it, from its oldest record on or (@now) from what
 * comes. @meta and *@records are the caller's to free, also on error. FOAL_EXIT_CONTROL.
 */
int remote_log_open(struct client *client, bool now, struct trace_meta *meta,
		    struct ept_records **records, struct foal_error *err);

/* remote_trace.c: of a running VM. As remote_fn: @opt is that of a struct trace_options. */
int remote_trace(const struct remote_options *opt, struct run_dir *dir, struct client *client);

int command_trace(int argc, char **argv, uint64_t main_ns);
void trace_help(void);

#endif
