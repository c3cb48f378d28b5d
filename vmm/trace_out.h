/*
 * Where foal trace writes to, and in which form. A regular file is written under another name and
 * has its own when all of it is there; a pipe, a terminal, a device is written as it is. One
 * thread. Private to vmm/.
 */
#ifndef FOAL_VMM_TRACE_OUT_H
#define FOAL_VMM_TRACE_OUT_H

#include <stddef.h>

#include "vmm/trace_file.h"

struct trace_out;

/*
 * @path "-": standard output. @signals: a descriptor that becomes readable when whoever waits for
 * a reader is to give up (signalfd(2)), the caller's; -1: none. FOAL_EXIT_TRACE, -ENOMEM.
 */
int trace_out_open(const char *path, int signals, struct trace_out **out, struct foal_error *err);

/* Append. An error is kept, and all that follows dropped. */
void trace_out_bytes(struct trace_out *out, const void *bytes, size_t len);
void trace_out_text(struct trace_out *out, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* What was to come cannot: @error, negative, is kept as one of writing. */
void trace_out_fail(struct trace_out *out, int error);
/* Nothing more comes for now: who reads a pipe is to have all so far. */
void trace_out_push(struct trace_out *out);
/* 0, or the first error: a negative errno. -EINTR: @signals. */
int trace_out_error(const struct trace_out *out);

/* Write the rest, and give the file its name, or (not @keep) leave none. FOAL_EXIT_TRACE. */
int trace_out_close(struct trace_out *out, bool keep, struct foal_error *err);

/* --- the forms -------------------------------------------------------------------------- */

struct trace_form {
	const char *name;
	const char *suffix; /* of files that have it by default; NULL: all others */
	/* Both live until end(). NULL: out of memory. */
	void *(*begin)(struct trace_out *out, const struct trace_meta *meta);
	/* @record is valid (trace_record_is_valid()); about in the order of time. NULL: it has no
	 * place for those. */
	void (*record)(void *form, const struct ept_record *record);
	/* NULL: the same. @sample is valid; it comes about when its record does. */
	void (*sample)(void *form, const struct ept_sample *sample);
	/* NULL: it has no place for KVM's faults, or for what else KVM told. The second once,
	 * before end(). */
	void (*kvm_fault)(void *form, const struct kvm_fault *fault);
	void (*kvm_end)(void *form, const struct trace_kvm_told *told);
	/* The last; frees. */
	void (*end)(void *form, struct trace_lost lost);
};

extern const struct trace_form trace_chrome, trace_csv, trace_binary;
extern const struct trace_form trace_kvm_csv, trace_rips_csv;	  /* of --kvm, of --rips alone */
extern const struct trace_form trace_summary, trace_summary_json; /* for people, for programs */

/* By its name; NULL: there is none. */
const struct trace_form *trace_form_named(const char *name);
/* By the suffix of the file. */
const struct trace_form *trace_form_of(const char *path);

#endif
