/*
 * `foal bench faults` (`foal bench snapshots`: bench_snapshots.h): what a page costs a guest,
 * through foal's memory and through the plain alternative, which is a mapping of the monitor's
 * registered as it is, its faults resolved by the host kernel. `foal bench exits`: what each way
 * out of the guest costs, beside the host kernel's own where there is one. docs/bench.md.
 *
 * A case is an access pattern on memory of a kind; what is measured of it are its
 * rows. A sample is one run of one side of a case, in a process of its own
 * (`foal bench-sample`). Private to vmm/bench*.c.
 */
#ifndef FOAL_VMM_BENCH_H
#define FOAL_VMM_BENCH_H

#include <jansson.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "ept/ept.h"
#include "vmm/bench_guest/job.h"
#include "vmm/error.h"

/* --- cases (bench_cases.c) -------------------------------------------------------- */

enum bench_backing {
	BENCH_ANON,
	BENCH_PRIVATE, /* a file; the guest's writes stay with it */
	BENCH_SHARED,  /* a file; they reach it */
};

enum bench_pattern {
	BENCH_SEQUENTIAL,
	BENCH_STRIDED, /* every BENCH_STRIDE-th page */
	BENCH_SPARSE,  /* one page in 2 MiB */
	BENCH_RANDOM,  /* pages at random, none twice */
	BENCH_UNIFORM, /* each page once, then pages at random; BENCH_DRAWN touches a page in all */
	BENCH_SKEWED,  /* the same, 80 % of the later touches in 20 % of the pages */
};

#define BENCH_STRIDE 8
#define BENCH_DRAWN  5
#define BENCH_BRIEF  3 /* pairs of short samples, or unsteady ones, that a round takes */

/* What the other side is. */
enum bench_other {
	BENCH_HOST_KERNEL, /* a mapping of the same backing; no huge pages */
	BENCH_ONE_CPU,	   /* the same with one vCPU */
	BENCH_ONE_VM,	   /* ours: one process instead of BENCH_MANY */
	BENCH_HOST_SWAP,   /* host swap under a memory cgroup with the same limit */
	BENCH_NOBODY,	   /* there is no other way */
	BENCH_NO_LOG,	   /* the same without the fault log */
};

#define BENCH_MANY	10
#define BENCH_LIMIT_MIB 32 /* of BENCH_HOST_SWAP, on both sides */

enum bench_metric {
	BENCH_NOTHING,
	BENCH_TIME,    /* us a touch, in the guest */
	BENCH_FIRST,   /* BENCH_UNIFORM, BENCH_SKEWED: the same of first touches */
	BENCH_STEADY,  /* and of all others */
	BENCH_MIDDLE,  /* the same as BENCH_TIME, of the median chunk of BENCH_CHUNK touches */
	BENCH_RATE,    /* touches a second, all vCPUs */
	BENCH_OWN,     /* KiB of private memory more than before the touches */
	BENCH_MEMORY,  /* MiB of host memory; bench_host_memory() */
	BENCH_READ,    /* KiB read from disk */
	BENCH_METRICS, /* how many there are */
};

/* What the ratio must be for the row to hold; '<' or '>' reads "or equal". 0: nothing. */
struct bench_bar {
	char how;
	double ratio;
};

struct bench_measure {
	enum bench_metric metric;
	struct bench_bar bar;
};

#define BENCH_MEASURES 3

struct bench_case {
	const char *name;    /* of its first row; of others, with the metric behind */
	const char *options; /* our side's, as `foal run` takes them */
	enum bench_backing backing;
	enum bench_pattern pattern;
	bool write, read_before; /* read_before: all pages are read before the time starts */
	bool cold;		 /* the file is not in the page cache */
	bool plain;		 /* our side is plain, too: what the host itself does */
	enum bench_other other;
	unsigned cpus;
	unsigned mib;	      /* of the memory */
	unsigned percent;     /* BENCH_RANDOM: of the pages that are touched */
	bool detail;	      /* of the matrix: fewer rounds */
	bool exits;	      /* of foal bench exits, and no other */
	bool replayed;	      /* of foal bench replay, and no other */
	bool cached;	      /* our cache holds the file, of which nothing is mapped */
	bool plain_huge;      /* the plain side has huge pages */
	enum bench_exit exit; /* no memory is touched, it leaves the guest so, */
	bool ring0;	      /* from there; else from ring 3 */
	unsigned times;	      /* and so often */
	unsigned pairs;	      /* that a round takes; 0: one */
	bool stamped;	      /* the time of each BENCH_CHUNK touches is taken: BENCH_MIDDLE */
	struct bench_measure measures[BENCH_MEASURES];
};

extern const struct bench_case bench_cases[];
extern const size_t bench_case_count;

/* The bench has a file of each size; a case's lies in the one that has room for it. */
#define BENCH_FILE_MIB	    64
#define BENCH_LONG_FILE_MIB 256

/*
 * The pages that @c touches, in order, at most @limit of them (0: no limit), a
 * malloc'ed array. NULL: no memory.
 */
uint32_t *bench_order(const struct bench_case *c, size_t limit, size_t *count);

/* --- samples (bench_sample.c) ------------------------------------------------------- */

/* KVM's own counts (Documentation/virt/kvm/api.rst, KVM_GET_STATS_FD), over all vCPUs. */
#define BENCH_KVM_COUNTS(X) \
	X(exits) \
	X(pf_taken) X(pf_fixed) X(pf_guest) X(io_exits) X(mmio_exits) X(hypercalls) X(halt_exits)
#define X(name) BENCH_KVM_##name,
enum bench_kvm_count { BENCH_KVM_COUNTS(X) BENCH_NR_KVM };
#undef X

/* As a sample's process writes it to its standard output. */
struct bench_result {
	int status;		     /* 0, or one of enum foal_exit: not measured */
	char why[480];		     /* then */
	double value[BENCH_METRICS]; /* in the metrics' units */
	uint64_t touches;	     /* the guest's */
	uint64_t pages;		     /* different ones touched */
	uint64_t installed;	     /* pages of the memory that the host has mapped after it */
	uint64_t faults;	     /* events that foal's handlers served, until all was touched */
	uint64_t cases[EPT_NR_CASES]; /* of these, by case */
	double cpu_us;		      /* CPU time of the process a touch */
	uint32_t ticks;		      /* timer interrupts meanwhile */
	uint64_t answered; /* exits to this program meanwhile, but for the guest's word that it is
			      done; where an eventfd takes them, what it counted */
	bool has_kvm;	   /* KVM tells its counts: */
	uint64_t kvm[BENCH_NR_KVM]; /* meanwhile, with that word */
};

/* What a sample is told beside its case. */
struct bench_sample {
	const struct bench_case *c;
	bool ours;
	bool unlogged; /* ours without the fault log */
	unsigned cpus;
	int file;	   /* the case's */
	int swap;	   /* an empty one: what the word FILE in a case's options stands for */
	size_t limit;	   /* of touches; 0: none */
	const char *group; /* memory cgroup to be in when the guest touches; "": none */
	const char *trace; /* a file that its fault log is written to; "": it is not */
};

/* The sample's own process: measure, write a struct bench_result. */
int command_bench_sample(int argc, char **argv, uint64_t main_ns);

/* Start one and wait for its result; never fails but by result->status. */
void bench_sample_run(const struct bench_sample *sample, struct bench_result *result);

/* The same for BENCH_ONE_VM: host memory of so many `foal run`. */
void bench_many_run(const struct bench_sample *sample, struct bench_result *result);

/* --- exits of a kind (bench_exit.c) ----------------------------------------------------- */

struct bench_vm;
struct run_options;

/* What takes a sample's exits that are not for memory. */
struct bench_taker {
	uint64_t answered; /* vCPU's thread; read while it stands still */
	int bell;	   /* an eventfd, where the host kernel takes them; -1 */
};

/* The guest's job of a case with an exit; before it starts. */
void bench_exit_job(struct bench_vm *vm, const struct bench_sample *sample,
		    struct bench_result *result);
/*
 * TSC cycles a touch or exit of a stamped job: the median of its chunks, so that what else ran on
 * the vCPU's processor for a while is not in it. After BENCH_TOUCHED.
 */
double bench_chunk_cycles(const struct bench_vm *vm);
/* Have its exits taken, by this program or by an eventfd; before it starts. */
int bench_taker_begin(struct bench_taker *taker, struct bench_vm *vm,
		      const struct bench_sample *sample, struct foal_error *err);
/* How many it was; that many were to come, else it is an error. */
int bench_taker_end(struct bench_taker *taker, const struct bench_sample *sample,
		    struct bench_result *result, struct foal_error *err);
/* What the guest's `sum` has to be then. */
uint64_t bench_exit_sum(const struct bench_case *c, uint64_t times);

/* KVM's counts by now, while no vCPU runs. False: it has none. */
bool bench_kvm_counts(const struct bench_vm *vm, uint64_t out[BENCH_NR_KVM]);
const char *bench_kvm_name(enum bench_kvm_count count);

/* Bring all @size bytes of @obj into its cache, through a space that is gone after it. */
int bench_fill_cache(struct ept_object *obj, uint64_t size);

/* --- what the host says (bench_host.c) ------------------------------------------------ */

/* A file of @mib in @dir, gone when it is closed; kept over exec. -1 with @err. */
int bench_file_create(const char *dir, unsigned mib, struct foal_error *err);
/* The same with nothing in it. */
int bench_file_empty(const char *dir, struct foal_error *err);

/* All of it into the page cache, or none. 0, or -EBUSY: the host does not drop it. */
int bench_file_warm(int file);
int bench_file_drop(int file);

struct bench_usage {
	uint64_t own;	/* bytes of private memory of this process */
	uint64_t read;	/* bytes it read from disk */
	uint64_t cache; /* bytes of the file in the page cache */
};

void bench_usage(int file, struct bench_usage *out);

/*
 * Bytes of host memory that the processes take: what they have mapped, a page
 * shared by many counted once, and what of @file and of their memfds is in memory
 * besides. 0: not to be found out.
 */
uint64_t bench_host_memory(const pid_t *pids, size_t count, int file);
/* Bytes of memory that the host could give away (MemAvailable); 0: it does not say. */
uint64_t bench_host_available(void);

/* CPU time of this process so far: vCPUs, guest time included, and all other threads. */
double bench_cpu_us(void);

/* Of this host's TSC; takes some milliseconds. */
double bench_tsc_khz(void);

/* Pages that this process has mapped at [@hva, @hva + @size). */
uint64_t bench_mapped(const void *hva, uint64_t size);

/* --- memory that the host has to get first (bench_warm.c) ---------------------------------- */

struct bench_warm {
	double first_us,
	    again_us;  /* a page of free memory, touched, and touched again after that */
	bool on;       /* before each sample what it will take is touched */
	uint64_t most; /* bytes touched before a sample, at most */
};

/* From here on it is done; what it saves is told, measured at the first call. */
void bench_warm_look(struct bench_warm *warm);

/* If it is on: touch and free as much memory as @sample will take, whatever its side. */
void bench_warm(struct bench_warm *warm, const struct bench_sample *sample);
/* The same for what takes so many bytes. */
void bench_warm_bytes(struct bench_warm *warm, uint64_t bytes);

/* --- memory cgroups (bench_group.c) ------------------------------------------------------- */

#define BENCH_GROUP_PATH 4096

/*
 * One below this process's own, or beside it, with @limit bytes (0: none): its directory. False:
 * none can be made, and @group is empty.
 */
bool bench_group_make(char group[BENCH_GROUP_PATH], uint64_t limit);
/* What @pid, and who it forks, takes from now on counts there. 0 or a negative errno. */
int bench_group_enter(const char *group, pid_t pid);
/* What is charged to it, the kernel's memory for its processes among it. */
double bench_group_mib(const char *group);
/* Once its processes have ended; empty: none was made, and is after it. */
void bench_group_remove(char group[BENCH_GROUP_PATH]);

/* --- swapping by the host (bench_swap.c) ------------------------------------------------- */

struct bench_swap {
	char group[BENCH_GROUP_PATH]; /* with the limit; empty: none */
	char file[4096];	      /* swap that was made for it; empty: none */
	char why[256];		      /* it cannot be; empty: it can */
};

/*
 * A group that takes @limit bytes, and swap: the host's, or where it has none and
 * @make says so a file in @dir. Look at @why after it; bench_swap_end() undoes it.
 */
void bench_swap_begin(struct bench_swap *swap, const char *dir, bool make, uint64_t limit);
void bench_swap_end(struct bench_swap *swap);

/* --- the result (bench_report.c) --------------------------------------------------------- */

struct bench_report;

struct bench_report *bench_report_new(void);
void bench_report_free(struct bench_report *report);

/* Take in the two sides of a case, measured one after the other; @plain NULL: there is none. */
void bench_report_add(struct bench_report *report, const struct bench_case *c,
		      const struct bench_result *ours, const struct bench_result *plain);

/* How the run was: @warm is copied. */
void bench_report_ended(struct bench_report *report, const struct bench_warm *warm, double seconds);

/* A line a row on standard output, and how the run was. */
void bench_report_print(struct bench_report *report);

/* Bars that were measured and do not hold. */
unsigned bench_report_broken(struct bench_report *report);

/* "memory" of a result; the caller's. */
json_t *bench_warm_json(const struct bench_warm *warm);
/* {"rows": [...], "seconds": n, "memory": {...}}; the caller's. */
json_t *bench_report_json(struct bench_report *report);

/* The name of row @m of @c. */
void bench_row_name(const struct bench_case *c, unsigned m, char *buf, size_t size);
/* "ratio <= 0.1", or "none". */
void bench_bar_text(struct bench_bar bar, char *buf, size_t size);
const char *bench_unit(enum bench_metric metric);

/* --- the samples in turn (bench_run.c) ------------------------------------------------------ */

/* At most: no case takes more than SERIES_MAX pairs in them. */
#define BENCH_ROUNDS	   64
/* Rounds of the detail, of those of the others. */
#define BENCH_DETAIL_SHARE 3

struct bench_options {
	const char *only; /* NULL: all */
	const char *json; /* "": to standard output */
	const char *dir;
	const char *bare; /* NULL: rows that need it are not measured */
	unsigned rounds;
	size_t pages;
	bool list, detail, exits, help, host_swap;
};

/* Of its command; the detail is left out, unless it or a name is asked for. */
bool bench_chosen(const struct bench_options *opt, const struct bench_case *c);

/*
 * Measure what is chosen, the result to standard output and where opt->json says.
 * *@broken: bars that do not hold.
 */
int bench_measure(const struct bench_options *opt, unsigned *broken, struct foal_error *err);

/* The rows that are chosen and their bars, on standard output. */
void bench_list(const struct bench_options *opt);

/* What any bench does besides measuring: */

/* Found out before anything is measured; what is in the file stays until there is a result. */
int bench_open_json(const char *path, FILE **out, struct foal_error *err);
/* Takes @root. @path: NULL: @out is standard output. */
int bench_write_json(json_t *root, FILE *out, const char *path, struct foal_error *err);
/* One line for what would make each sample fail. */
int bench_check_host(struct foal_error *err);
/* On a terminal, in one line; @name NULL takes the line away. */
void bench_progress(unsigned round, unsigned rounds, const char *name);
/* Blocked meanwhile, so that the bench can put things in order. */
sigset_t bench_signals(void);
/* The one of them that came; 0: none did. */
int bench_signal_came(void);
/* It ended the bench early. */
int bench_interrupted(int signal, struct foal_error *err);

/* --- the command line (bench_command.c) ------------------------------------------------------ */

/* What it takes, for foal help. */
void bench_help(void);

int command_bench(int argc, char **argv, uint64_t main_ns);

/* --- foal bench replay ------------------------------------------------------------------------ */

/* bench_trace.c: what @space, made from @opt, has in its log, as a binary trace in file @path. */
int bench_trace_write(const struct ept_space *space, const struct run_options *opt,
		      const char *path, struct foal_error *err);

/* bench_replay.c */
void bench_replay_list(const struct bench_options *opt);
/* As bench_measure(). */
int bench_replay_measure(const struct bench_options *opt, unsigned *broken, struct foal_error *err);

/* --- foal bench snapshots (bench_snapshots.c) ----------------------------------------------- */

void bench_snapshots_list(const struct bench_options *opt);
/* As bench_measure(). */
int bench_snapshots_measure(const struct bench_options *opt, unsigned *broken,
			    struct foal_error *err);

#endif
