/* foal trace of a running VM: its log is read beside it, and it never waits for us. */
#include "vmm/remote_trace.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/trace_kvm.h"
#include "vmm/vm.h"

/* The log holds what comes in some 160 ms at 200,000 faults a second of one thread. */
#define LOOK_MS 10
#define PORTION 8192U	   /* records between two looks at all else */
#define LAST	(1U << 18) /* more than a log holds */
#define GONE_MS 1000

struct follow {
	const struct trace_options *opt;
	const struct run_dir *dir;
	struct client *client;
	struct name_mark mark;
	struct trace_meta meta;
	struct ept_records *records;
	struct trace_job job;
	struct trace_kvm *kvm; /* NULL: not asked for */
	uint64_t wrong;	       /* records that say what there is not */
	uint64_t until;	       /* CLOCK_MONOTONIC */
	uint64_t looked;       /* the same: for whether it is there, once nobody tells us */
	bool connected, gone;
};

/* --- following -------------------------------------------------------------------------------- */

/* Up to @most records; true: there are no more now, that are to be taken. */
static bool drain(struct follow *f, unsigned most)
{
	struct ept_record record;

	for (unsigned i = 0; i < most && !trace_out_error(f->job.out); i++) {
		if (ept_records_next(f->records, &record) != 1 || record.at > f->until)
			return true;
		if (!trace_record_is_valid(&f->meta, &record)) {
			f->wrong++;
			continue;
		}
		trace_job_record(&f->job, &record);
		if (f->kvm)
			trace_kvm_record(f->kvm, &record);
	}
	return false;
}

/* No more than a ring of them a call. */
static void drain_samples(struct follow *f)
{
	struct ept_sample sample;

	for (unsigned i = 0; i < PORTION && ept_samples_next(f->records, &sample) == 1; i++) {
		if (sample.at > f->until)
			continue;
		if (trace_sample_is_valid(&f->meta, &sample))
			trace_job_sample(&f->job, &sample);
		else
			f->wrong++;
	}
}

/* What KVM told, once it is known which of it the handlers resolved; @all: the rest. */
static void drain_kvm(struct follow *f, bool all)
{
	struct kvm_fault fault;

	while (f->kvm && trace_kvm_next(f->kvm, all, &fault))
		trace_job_kvm_fault(&f->job, &fault);
}

/* KVM's side first: its rings are the smaller ones. */
static bool look(struct follow *f, unsigned most, bool last)
{
	if (f->kvm)
		trace_kvm_look(f->kvm);
	bool dry = drain(f, most);
	drain_samples(f);
	drain_kvm(f, last);
	return dry;
}

/*
 * Its end, which it may tell of before; or our being sent away after having been silent: then
 * its name says whether it is there.
 */
static void hear(struct follow *f, short events)
{
	char told[1024];

	if (events && f->connected)
		f->connected = recv(f->client->fd, told, sizeof(told), MSG_DONTWAIT) > 0;
	if (f->connected || (!events && now_ns() - f->looked < GONE_MS * 1000000ULL))
		return;
	f->looked = now_ns();
	f->gone = name_wait_gone(f->dir, f->opt->remote.name, &f->mark, events ? GONE_MS : 0) == 0;
}

static void follow(struct follow *f)
{
	bool dry, stop = false;

	while (!stop && !trace_out_error(f->job.out)) {
		bool ended = f->gone;
		dry = look(f, PORTION, false);
		if (dry)
			trace_out_push(f->job.out);
		struct pollfd fds[] = {{.fd = f->job.signals, .events = POLLIN},
				       {.fd = f->connected ? f->client->fd : -1, .events = POLLIN}};
		poll(fds, 2, dry ? LOOK_MS : 0);
		if (trace_job_signal(&f->job)) {
			f->until = now_ns();
			stop = true;
		}
		stop |= now_ns() >= f->until || (ended && dry);
		if (!stop)
			hear(f, fds[1].revents);
	}
	look(f, LAST, true);
}

/* Or else many a trace would be empty, and nobody knew why. */
static void say_unseen(const struct follow *f)
{
	const json_t *list = json_object_get(f->meta.json, "areas"), *area;
	size_t i, unseen = 0;

	json_array_foreach(list, i, area)
	{
		unseen += strcmp(reply_text(area, "engine"), "kernel") == 0;
	}
	if (unseen)
		notice("%s: of %zu of its %zu areas the host kernel resolves the faults, and there "
		       "is no record of them (foal run --fault-engine handler)",
		       f->opt->remote.name, unseen, f->meta.nr_areas);
}

/* What is lost of what is written: records, or with CSV of KVM's faults samples. */
static uint64_t end_kvm(struct follow *f)
{
	struct client *client = f->connected && !f->gone ? f->client : NULL;
	const struct trace_kvm_told *told = trace_kvm_end(f->kvm, client);

	trace_job_kvm_end(&f->job, told);
	return f->job.form->record ? ept_records_lost(f->records) : told->counts.lost;
}

static int begin(struct follow *f, struct foal_error *err)
{
	int r = remote_log_open(f->client, f->opt->now, &f->meta, &f->records, err);

	f->meta.symbols = f->opt->symbols;
	if (r == 0 && f->opt->kvm) {
		f->kvm = trace_kvm_open(f->client);
		if (!f->kvm)
			r = error_set(err, FOAL_EXIT_HOST, -ENOMEM, "out of memory");
	} else if (r == 0) {
		say_unseen(f);
	}
	return r ? r : trace_job_begin(&f->job, f->opt, &f->meta, err);
}

static int run(struct follow *f, struct foal_error *err)
{
	int r = begin(f, err);

	if (r)
		return r;
	f->until = f->opt->has_for ? now_ns() + f->opt->seconds * 1000000000ULL : UINT64_MAX;
	follow(f);
	if (f->gone)
		notice("%s: the VM has ended; what was recorded until then is kept",
		       f->opt->remote.name);
	if (f->wrong)
		notice("%s: %llu records say what there is not, and are left out",
		       f->opt->remote.name, (unsigned long long)f->wrong);
	struct trace_lost lost = {.records = f->kvm ? end_kvm(f) : ept_records_lost(f->records),
				  .samples = ept_samples_lost(f->records)};

	if (lost.samples)
		notice("%s: %llu samples of RIPs were overwritten before they were read",
		       f->opt->remote.name, (unsigned long long)lost.samples);
	return trace_job_end(&f->job, f->opt, f->meta.vm, lost, true, err);
}

int remote_trace(const struct remote_options *opt, struct run_dir *dir, struct client *client)
{
	struct foal_error err = {0};
	struct follow f = {.opt = (const struct trace_options *)opt,
			   .dir = dir,
			   .client = client,
			   .connected = true};

	name_mark(dir, opt->name, &f.mark);
	run(&f, &err);
	ept_records_close(f.records);
	trace_kvm_close(f.kvm);
	trace_meta_free(&f.meta);
	return remote_finish(&err, 0);
}
