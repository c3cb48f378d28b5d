/*
 * foal replay: what a recorded trace says of other settings (docs/replay.md). The touches that
 * were recorded go, in their order, through a space of ept/ in this process which has those
 * settings: its handlers decide and its installer installs, as in a VM. What the guest, KVM and
 * the waking of threads add to that is taken from the records. One thread. Private to vmm/.
 */
#ifndef FOAL_VMM_REPLAY_H
#define FOAL_VMM_REPLAY_H

#include "vmm/trace_file.h"

/* --- a trace in memory (replay_trace.c) ------------------------------------------------------ */

/* What is replayed of an area. */
struct replay_area {
	enum ept_file_mode mode; /* of a file */
	const char *left_out;	 /* why it is; NULL: it is not */
	uint64_t records;
};

struct replay_trace {
	struct trace_reader reader;
	struct trace_meta *meta;    /* the reader's */
	struct ept_record *records; /* by the time they were picked up */
	size_t count;
	struct replay_area *areas; /* as many as meta has */
	int kase[TRACE_CASES_MAX]; /* its numbers as this foal's; -1: a case that is not known */
	int origin[TRACE_ORIGINS_MAX];
	uint64_t left_out; /* records, of areas that are */
	bool exact;	   /* each page that was touched has a record: none came with another */
	bool ahead;	   /* of a restore that brought pages in ahead: those have none */
	size_t chains;	   /* below */
	double way;	   /* ns: the most that one of replay_costs may be */
};

/*
 * Read @path. A file that is damaged is used as far as it is whole: 0, and @err says so.
 * FOAL_EXIT_TRACE: nothing can be made of it. replay_trace_free() in any case.
 */
int replay_trace_load(struct replay_trace *trace, const char *path, struct foal_error *err);
void replay_trace_free(struct replay_trace *trace);

/*
 * Who one fault keeps waiting for the next: a vCPU; then vCPUs of which nobody knows which one it
 * was; last the monitor's own touches. Of a single vCPU it is always known.
 */
size_t replay_chain_of(const struct replay_trace *trace, const struct ept_record *record);

/*
 * How long it was handled: until its page was in. Who waited may run on before the thread that
 * woke it notes that it has, so being woken is part of the way.
 */
static inline uint32_t replay_handled_ns(const struct ept_record *record)
{
	return record->put_ns ? record->put_ns : record->done_ns;
}

static inline double replay_end_of(const struct ept_record *record)
{
	return (double)record->at + replay_handled_ns(record);
}

static inline size_t replay_monitor(const struct replay_trace *trace)
{
	return trace->chains - 1;
}

/* A page that the threads of a restore brought by asking for it as a guest would. */
static inline bool replay_is_ahead(const struct replay_trace *trace,
				   const struct ept_record *record)
{
	return trace->ahead && trace->origin[record->origin] == EPT_ORIGIN_LOADER;
}

static inline bool replay_leaves_out(const struct replay_trace *trace,
				     const struct ept_record *record)
{
	return record->area != EPT_RECORD_NONE && trace->areas[record->area].left_out;
}

/* Does a file stand behind it: not the snapshot's? */
static inline bool replay_has_file(const struct trace_area *area)
{
	return area->layers ? area->origin != NULL : area->file[0] != 0;
}

/* replay_gaps.c: fill in way. -ENOMEM. */
int replay_gaps(struct replay_trace *trace);

/* --- what faults add up to (replay_count.c) ------------------------------------------------- */

/* Of one chain. */
struct replay_chain {
	uint64_t faults, major;
	/* Touches of pages that came with another, by 4 KiB: no fault. Reads of a file's apart. */
	uint64_t quiet, quiet_file;
	uint64_t read_ns; /* of the faults: until what was to be read had come */
	uint64_t rest_ns; /* and from there until the page was in */
};

struct replay_count {
	uint64_t faults, cases[EPT_NR_CASES], installed, around, bytes_read;
	uint64_t ahead_read; /* bytes read ahead of faults; of what was recorded not known: 0 */
	uint64_t prefetched; /* pages that a restore brought ahead of faults; the same */
	uint64_t peak;	     /* bytes resident at most, under a limit */
	uint64_t swapped;    /* own pages that left for it, each time they did */
	struct replay_chain *chain;
};

int replay_count_init(struct replay_count *count, const struct replay_trace *trace);
void replay_count_free(struct replay_count *count);
/* A fault of case @kase (-1: none of ours), its stages as @record has them, in chain @chain. */
void replay_count_add(struct replay_count *count, const struct ept_record *record, int kase,
		      size_t chain);
/* All that was recorded, but what is left out. */
void replay_count_recorded(struct replay_count *count, const struct replay_trace *trace);

/* How fast the guest goes while something is read ahead of it. */
struct replay_pace {
	double way, page, file_page; /* ns: as in struct replay_costs */
	double slower; /* reading took so many times as long when it was recorded; at least 1 */
};

/* --- the guest meanwhile (replay_guest.c) ---------------------------------------------------- */

struct replay_guest {
	struct replay_pace pace;
	double recorded_end; /* of the faults so far, when they were recorded */
	double own;   /* ns it did itself since then and took no time for yet; may be below 0 */
	double ready; /* CLOCK_MONOTONIC, ns: when it goes on, if anything is coming */
	double late;  /* ns: of its naps */
};

/*
 * Of this thread: until the end it sleeps more sharply. @since (CLOCK_MONOTONIC, ns) it was on its
 * way to its first fault when that was recorded; 0: it takes no time for that.
 */
void replay_guest_begin(struct replay_guest *guest, const struct replay_pace *pace, uint64_t since);
void replay_guest_end(void);
/* What it did between the faults before @record and that one, when they were recorded, in ns. */
double replay_guest_between(struct replay_guest *guest, const struct ept_record *record);
/* It goes on @ns later, and is busy until then. */
void replay_guest_takes(struct replay_guest *guest, double ns);
bool replay_guest_busy(const struct replay_guest *guest);
/* Its fault is resolved: it takes its way back from now on, in which it may nap for a while. */
void replay_guest_resumes(struct replay_guest *guest);
/* False: not any more. */
bool replay_guest_naps(struct replay_guest *guest);

/* --- a snapshot (replay_layers.c) ---------------------------------------------------------- */

/*
 * What a restored VM's memory came from, as far as its trace tells: the pages that
 * it says came from a snapshot, and as its working set those in the order of their faults. In
 * memory; they say their own numbers.
 */
struct replay_layers {
	struct ept_snapshot
	    *snapshot;		     /* NULL: the trace is of no restore, or it had none of them */
	struct ept_working_set *set; /* NULL: none of its pages was asked for */
};

/* Areas of @trace that are replayed, into @space, with what stands for their files. */
int replay_add_areas(const struct replay_trace *trace, struct ept_space *space,
		     struct foal_error *err);
/* FOAL_EXIT_HOST, FOAL_EXIT_TRACE. replay_layers_free() in any case. */
int replay_layers_make(const struct replay_trace *trace, struct replay_layers *out,
		       struct foal_error *err);
/* The areas of @space, not started, come from @layers, which live as long, as @how says. */
int replay_layers_under(const struct replay_layers *layers, enum ept_prefetch_how how,
			struct ept_space *space, struct foal_error *err);
void replay_layers_free(struct replay_layers *layers);

/* --- doing it again (replay_space.c) --------------------------------------------------------- */

/*
 * All touches of @trace under @settings. @brought: of those pages that came with another all were
 * touched, too, one behind the other; else none was but where a record says so. @count: of
 * replay_count_init(). FOAL_EXIT_HOST (no userfaultfd, memory), FOAL_EXIT_TRACE (its areas cannot
 * be).
 */
int replay_again(const struct replay_trace *trace, const struct replay_layers *layers,
		 const struct trace_settings *settings, bool brought,
		 const struct replay_pace *pace, struct replay_count *count,
		 struct foal_error *err);

/* A name for mkdtemp() or mkostemp() in $TMPDIR, or else in /tmp. */
void replay_temporary(char *path, size_t size, const char *what);

/* replay_file.c: an object that stands for the file of area @i. 0 or a negative errno. */
int replay_file(const struct replay_trace *trace, size_t i, struct ept_object **out);

/* Bytes of host memory that this may take. */
uint64_t replay_needs(const struct replay_trace *trace, const struct trace_settings *settings);

/* --- what it takes (replay_time.c) ----------------------------------------------------------- */

/* ns each, beside what the replay took. */
struct replay_costs {
	double way; /* of a fault: out of the guest until it is picked up; woken, and back */
	/* A touch of a page by 4 KiB that is there, and that KVM has not mapped; a file's, read. */
	double page, file_page;
	double read, rest; /* what a recorded fault took more in its stages than here */
};

struct replay_time {
	double waited_ns; /* by all vCPUs for faults, their ways included */
	double span_ns;	  /* from the first fault to the end of the last */
};

/* Costs that are not of the trace. The way: at most, as far as the trace has none that is less. */
struct replay_given {
	double way_ns, page_ns, file_page_ns;
};

/*
 * replay_probe.c: measure on this host, with files in @dir, the way and what a file's page costs,
 * as far as they are 0. They stay 0 where no guest can be run. Takes a moment; bench_signals() are
 * blocked. 0, or the one that came, upon which no further guest is run; @dir is empty again.
 */
int replay_probe(const char *dir, struct replay_given *given);

/* @here: the trace replayed as it was recorded. */
struct replay_costs replay_costs_of(const struct replay_trace *trace,
				    const struct replay_count *recorded,
				    const struct replay_count *here,
				    const struct replay_pace *pace);
/* Before anything was replayed @here counts nothing. */
struct replay_pace replay_pace_of(const struct replay_trace *trace,
				  const struct replay_count *recorded,
				  const struct replay_count *here,
				  const struct replay_given *given);

struct replay_time replay_time_recorded(const struct replay_trace *trace,
					const struct replay_count *recorded,
					const struct replay_costs *costs);
struct replay_time replay_time_of(const struct replay_trace *trace,
				  const struct replay_count *recorded,
				  const struct replay_count *here, const struct replay_costs *costs,
				  const struct replay_count *predicted);

/* --- all of it (replay.c) -------------------------------------------------------------------- */

struct replay_side {
	struct replay_count count;
	struct replay_time time;
};

/* The least and the most that @to makes of it; equal where the trace is exact. */
struct replay {
	struct replay_trace trace;
	struct replay_layers layers; /* replay_predict()'s */
	struct trace_settings was;   /* recorded with */
	struct trace_settings to;
	struct replay_side recorded, here, least, most;
	struct replay_pace pace;
	struct replay_costs costs;
};

/* Of a host whose guests' own page tables KVM shadows; of files, where it cannot be measured. */
#define REPLAY_PAGE_NS	    2000.0
#define REPLAY_FILE_PAGE_NS 2750.0

/* With @replay->trace loaded, and was and to filled in. replay_free() in any case. */
int replay_predict(struct replay *replay, const struct replay_given *given, struct foal_error *err);
void replay_free(struct replay *replay);

/* replay_report.c */
void replay_print(const struct replay *replay);
json_t *replay_json(const struct replay *replay);

/* replay_command.c */
int command_replay(int argc, char **argv, uint64_t main_ns);
void replay_help(void);

#endif
