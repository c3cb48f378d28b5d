/*
 * A trace as Chrome's trace events, which ui.perfetto.dev opens: a track for each vCPU and for
 * each other origin, a slice for each fault with its stages in it; and for each vCPU one of what
 * KVM told of it, from exit to entry; samples of RIPs are moments of their vCPU. Slices of one
 * thread have to lie in each other or apart; faults that overlap (KVM's workers, several devices)
 * go to further lanes of their track, each a thread.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/kvm_sums.h"
#include "vmm/trace_out.h"

#define LANES 64U
/*
 * ns. Viewers compute where a slice ends from two numbers that have no exact binary form, and some
 * cut what is below a nanosecond off each: what ends where something else ends or begins would
 * reach over it. So it ends this much before; a stage that took no longer is none.
 */
#define APART 3U

struct track {
	unsigned used;
	uint64_t until[LANES]; /* when the last slice of the lane ends, ns */
};

struct chrome {
	struct trace_out *out;
	const struct trace_meta *meta;
	char **names;	       /* as JSON strings: of cases, then of areas, and of no area */
	struct track **tracks; /* of vCPUs, of origins, of vCPUs by KVM; NULL: nothing was there */
	bool any;
	uint64_t records, kvm_faults, samples;
	uint64_t by_case[TRACE_CASES_MAX];
};

/* A name as a JSON string, allocated. */
static char *quoted(const char *text)
{
	json_t *string = json_string(text);
	char *out = json_dumps(string, JSON_ENCODE_ANY | JSON_ENSURE_ASCII);

	json_decref(string);
	return out;
}

static void put_string(struct trace_out *out, const char *text)
{
	char *string = quoted(text);

	if (string)
		trace_out_text(out, "%s", string);
	free(string);
}

static void separate(struct chrome *c)
{
	trace_out_text(c->out, c->any ? ",\n" : "\n");
	c->any = true;
}

/* Microseconds from the start of the VM's process, exact to the nanosecond. */
static void put_time(const struct chrome *c, uint64_t at)
{
	bool before = at < c->meta->main_ns;
	uint64_t ns = before ? c->meta->main_ns - at : at - c->meta->main_ns;

	trace_out_text(c->out, "%s%" PRIu64 ".%03u", before ? "-" : "", ns / 1000,
		       (unsigned)(ns % 1000));
}

/* --- tracks ------------------------------------------------------------------------------ */

static unsigned track_of(const struct trace_meta *meta, const struct ept_record *r)
{
	return r->vcpu != EPT_RECORD_NONE ? r->vcpu : meta->cpus + r->origin;
}

static unsigned track_of_kvm(const struct trace_meta *meta, unsigned vcpu)
{
	return meta->cpus + meta->nr_origins + vcpu;
}

static unsigned nr_tracks(const struct trace_meta *meta)
{
	return track_of_kvm(meta, meta->cpus);
}

static unsigned tid_of(unsigned track, unsigned lane)
{
	return track * LANES + lane + 1;
}

/* Say what the thread is called, and where it stands. */
static void name_lane(struct chrome *c, unsigned track, unsigned lane)
{
	unsigned tid = tid_of(track, lane);

	separate(c);
	trace_out_text(c->out,
		       "{\"ph\":\"M\",\"name\":\"thread_sort_index\",\"pid\":1,\"tid\":%u,"
		       "\"args\":{\"sort_index\":%u}},\n"
		       "{\"ph\":\"M\",\"name\":\"thread_name\",\"pid\":1,\"tid\":%u,"
		       "\"args\":{\"name\":",
		       tid, tid, tid);
	if (track < c->meta->cpus)
		trace_out_text(c->out, "\"vCPU %u\"", track);
	else if (track >= track_of_kvm(c->meta, 0))
		trace_out_text(c->out, "\"vCPU %u, by KVM\"", track - track_of_kvm(c->meta, 0));
	else
		put_string(c->out, c->meta->origins[track - c->meta->cpus]);
	trace_out_text(c->out, "}}");
}

/* NULL: out of memory. */
static struct track *open_track(struct chrome *c, unsigned track)
{
	if (!c->tracks[track])
		c->tracks[track] = calloc(1, sizeof(struct track));
	return c->tracks[track];
}

/* LANES: all are in use at that time. */
static unsigned find_lane(struct chrome *c, unsigned track, uint64_t from, uint64_t until)
{
	struct track *t = open_track(c, track);
	unsigned lane = 0;

	if (!t)
		return LANES;
	while (lane < t->used && t->until[lane] + APART > from)
		lane++;
	if (lane == LANES)
		return LANES;
	if (lane == t->used) {
		t->used++;
		name_lane(c, track, lane);
	}
	t->until[lane] = until;
	return lane;
}

/* --- events ------------------------------------------------------------------------------- */

static void put_args(const struct chrome *c, const struct ept_record *r)
{
	struct trace_out *out = c->out;

	trace_out_text(out,
		       "\"args\":{\"gpa\":\"0x%" PRIx64 "\",\"access\":\"%s\",\"installed\":%u,"
		       "\"around\":%u,\"granted\":%u,\"bytes_read\":%u,\"major\":%s,"
		       "\"event\":%s,\"protect\":%s,\"fallback\":%s,\"error\":%u}",
		       r->gpa, r->access == EPT_WRITE ? "write" : "read", r->installed, r->around,
		       r->granted, r->bytes_read, r->flags & EPT_RECORD_MAJOR ? "true" : "false",
		       r->flags & EPT_RECORD_EVENT ? "true" : "false",
		       r->flags & EPT_RECORD_PROTECT ? "true" : "false",
		       r->flags & EPT_RECORD_FALLBACK ? "true" : "false", r->error);
}

static void put_stage(struct chrome *c, const char *name, unsigned tid, uint64_t at, uint32_t from,
		      uint32_t until)
{
	uint32_t ns = until - from - APART;

	if (until - from <= APART)
		return;
	separate(c);
	trace_out_text(c->out,
		       "{\"ph\":\"X\",\"name\":\"%s\",\"cat\":\"stage\",\"pid\":1,"
		       "\"tid\":%u,\"ts\":",
		       name, tid);
	put_time(c, at + from);
	trace_out_text(c->out, ",\"dur\":%u.%03u}", ns / 1000, ns % 1000);
}

/* Those that it had, one behind the other, whatever the record says. */
static void put_stages(struct chrome *c, const struct ept_record *r, unsigned tid)
{
	uint32_t from = 0;

	if (r->read_ns && r->read_ns <= r->done_ns) {
		put_stage(c, "read", tid, r->at, from, r->read_ns);
		from = r->read_ns;
	}
	if (r->put_ns && r->put_ns >= from && r->put_ns <= r->done_ns) {
		put_stage(c, "install", tid, r->at, from, r->put_ns);
		from = r->put_ns;
	}
	if (from && from < r->done_ns)
		put_stage(c, "wake", tid, r->at, from, r->done_ns);
}

static void chrome_record(void *form, const struct ept_record *r)
{
	struct chrome *c = form;
	unsigned track = track_of(c->meta, r);
	unsigned lane = find_lane(c, track, r->at, r->at + r->done_ns), tid = tid_of(track, lane);
	size_t area = r->area == EPT_RECORD_NONE ? c->meta->nr_areas : r->area;
	bool slice = lane < LANES;

	separate(c);
	trace_out_text(c->out, "{\"ph\":\"%s\",\"name\":%s,\"cat\":%s", slice ? "X" : "i",
		       c->names[r->kase], c->names[c->meta->nr_cases + area]);
	trace_out_text(c->out, ",\"pid\":1,\"tid\":%u,\"ts\":", slice ? tid : tid_of(track, 0));
	put_time(c, r->at);
	if (slice)
		trace_out_text(c->out, ",\"dur\":%u.%03u,", r->done_ns / 1000, r->done_ns % 1000);
	else
		trace_out_text(c->out, ",\"s\":\"t\",");
	put_args(c, r);
	trace_out_text(c->out, "}");
	if (slice)
		put_stages(c, r, tid);
	c->records++;
	c->by_case[r->kase]++;
}

/* From the vCPU's exit to its entry. */
static void chrome_kvm_fault(void *form, const struct kvm_fault *f)
{
	struct chrome *c = form;
	unsigned track = track_of_kvm(c->meta, f->vcpu);
	unsigned lane = find_lane(c, track, f->at, f->entry);
	uint64_t ns = f->entry - f->at;

	c->kvm_faults++;
	if (lane == LANES)
		return;
	separate(c);
	trace_out_text(c->out,
		       "{\"ph\":\"X\",\"name\":\"%s\",\"cat\":\"kvm\",\"pid\":1,"
		       "\"tid\":%u,\"ts\":",
		       kvm_sum_name(kvm_sum_of(c->meta, f)), tid_of(track, lane));
	put_time(c, f->at);
	trace_out_text(c->out,
		       ",\"dur\":%" PRIu64 ".%03u,\"args\":{\"gpa\":\"0x%" PRIx64
		       "\",\"rip\":\"0x%" PRIx64 "\",\"error_code\":\"0x%" PRIx64 "\"}}",
		       ns / 1000, (unsigned)(ns % 1000), f->gpa, f->rip, f->error_code);
}

/* A moment of the vCPU, in its first lane. */
static void chrome_sample(void *form, const struct ept_sample *s)
{
	struct chrome *c = form;
	struct track *t = open_track(c, s->vcpu);

	c->samples++;
	if (!t)
		return;
	if (!t->used) {
		t->used = 1;
		name_lane(c, s->vcpu, 0);
	}
	separate(c);
	trace_out_text(c->out,
		       "{\"ph\":\"i\",\"name\":\"RIP\",\"cat\":\"rip\",\"pid\":1,\"tid\":%u,"
		       "\"s\":\"t\",\"ts\":",
		       tid_of(s->vcpu, 0));
	put_time(c, s->at);
	trace_out_text(c->out,
		       ",\"args\":{\"gpa\":\"0x%" PRIx64 "\",\"access\":\"%s\",\"rip\":\"0x%" PRIx64
		       "\",\"cpl\":%u,\"exact\":%s}}",
		       s->gpa, s->access == EPT_WRITE ? "write" : "read", s->rip, s->cpl,
		       s->exact ? "true" : "false");
}

/* --- beginning and end --------------------------------------------------------------------- */

static bool quote_names(struct chrome *c, const struct trace_meta *meta)
{
	size_t n = meta->nr_cases + meta->nr_areas + 1;
	bool all = true;

	c->names = calloc(n, sizeof(*c->names));
	for (size_t i = 0; c->names && i < n; i++) {
		size_t area = i - meta->nr_cases;
		c->names[i] = quoted(i < meta->nr_cases	     ? meta->cases[i]
				     : area < meta->nr_areas ? meta->areas[area].name
							     : "(no area)");
		all &= c->names[i] != NULL;
	}
	return c->names && all;
}

static void free_all(struct chrome *c, const struct trace_meta *meta)
{
	for (size_t i = 0; c->names && i < meta->nr_cases + meta->nr_areas + 1; i++)
		free(c->names[i]);
	for (unsigned i = 0; c->tracks && i < nr_tracks(meta); i++)
		free(c->tracks[i]);
	free(c->names);
	free(c->tracks);
	free(c);
}

static void *chrome_begin(struct trace_out *out, const struct trace_meta *meta)
{
	struct chrome *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->tracks = calloc(nr_tracks(meta), sizeof(struct track *));
	if (!c->tracks || !quote_names(c, meta)) {
		free_all(c, meta);
		return NULL;
	}
	c->out = out;
	c->meta = meta;
	trace_out_text(out, "{\"displayTimeUnit\":\"ns\",\"traceEvents\":[");
	separate(c);
	trace_out_text(out,
		       "{\"ph\":\"M\",\"name\":\"process_name\",\"pid\":1,"
		       "\"args\":{\"name\":\"VM %s\"}}",
		       meta->vm);
	return c;
}

/* What the slices add up to, for whoever wants to know whether all came over. */
static void chrome_end(void *form, struct trace_lost lost)
{
	struct chrome *c = form;
	bool any = false;

	trace_out_text(c->out,
		       "\n],\"otherData\":{\"records\":%" PRIu64 ",\"kvm_faults\":%" PRIu64
		       ",\"samples\":%" PRIu64 ",\"lost\":%" PRIu64 ",\"samples_lost\":%" PRIu64
		       ",\"main_ns\":%" PRIu64 ",\"first_run_ns\":%" PRIu64 ",\"cases\":{",
		       c->records, c->kvm_faults, c->samples, lost.records, lost.samples,
		       c->meta->main_ns, c->meta->first_run_ns);
	for (unsigned i = 0; i < c->meta->nr_cases; i++) {
		if (!c->by_case[i])
			continue;
		trace_out_text(c->out, "%s%s:%" PRIu64, any ? "," : "", c->names[i], c->by_case[i]);
		any = true;
	}
	trace_out_text(c->out, "}}}\n");
	free_all(c, c->meta);
}

const struct trace_form trace_chrome = {
    .name = "chrome",
    .suffix = ".json",
    .begin = chrome_begin,
    .record = chrome_record,
    .sample = chrome_sample,
    .kvm_fault = chrome_kvm_fault,
    .end = chrome_end,
};
