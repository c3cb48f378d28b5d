/*
 * foal top: a live view of a running VM (docs/top.md), in three steps, each a file: what the VM
 * says, checked (top_sample.c); lines of text of that (top_page.c); a terminal (top_screen.c).
 * Private to vmm/.
 */
#ifndef FOAL_VMM_TOP_H
#define FOAL_VMM_TOP_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "ept/stats.h"
#include "vmm/remote_trace.h"

/* --- what a VM says at one moment -------------------------------------------------------- */

#define TOP_CASES_MAX	64
#define TOP_ORIGINS_MAX 8
#define TOP_CELLS_MAX	4096 /* of the map */
#define TOP_NAME_MAX	24

struct top_case {
	char name[TOP_NAME_MAX];
	uint64_t faults, installed, bytes_read;
	uint64_t p50, p99; /* ns */
};

struct top_origin {
	char name[TOP_NAME_MAX];
	uint64_t faults;
};

struct top_cell {
	uint64_t number; /* from gpa 0 on */
	uint64_t pages, there;
};

struct top_sample {
	uint64_t at; /* now_ns() of the reader */
	char state[TOP_NAME_MAX];
	uint64_t cpus, memory, uptime;	  /* -, bytes, ns */
	uint64_t resident, huge, monitor; /* bytes */
	bool limited;			  /* the next ones say something: bytes */
	uint64_t limit, counted, swapped; /* what counts against it; in the swap file */
	uint64_t events;		  /* of userfaultfd */
	bool kvm;			  /* the same of KVM's counters */
	uint64_t pf_taken, pf_fixed, exits;
	uint64_t first_run, debt_pages, debt_p50, debt_p99, ready; /* ns; ready 0: not yet */

	struct top_case total, cases[TOP_CASES_MAX]; /* total: sums, without times */
	unsigned nr_cases;
	struct top_origin origins[TOP_ORIGINS_MAX];
	unsigned nr_origins;
	unsigned shift; /* a cell has 2^shift bytes */
	struct top_cell cells[TOP_CELLS_MAX];
	unsigned nr_cells;
};

/*
 * Take the replies to "stat" and "residency" apart. Names are printable ASCII then, numbers not
 * negative, cells in order and no fuller than they can be. NULL, or what is wrong, a literal.
 */
const char *top_sample_take(struct top_sample *out, const json_t *stat, const json_t *residency);

/* As much of @text as fits, what is not printable as '?'. */
void top_take_name(char out[TOP_NAME_MAX], const char *text);

/* --- two of them, and the log between ------------------------------------------------------ */

#define TOP_SORTS(X) \
	X(FAULTS, "faults") \
	X(RATE, "rate") \
	X(PAGES, "pages") \
	X(P99, "p99") \
	X(CASE, "case")

enum top_sort {
#define X(id, name) TOP_SORT_##id,
	TOP_SORTS(X)
#undef X
	    TOP_NR_SORTS
};

struct top {
	const char *vm;
	double every; /* seconds */
	enum top_sort sort;
	bool any, again; /* there is one sample; there are two */
	struct top_sample now, before;
	bool log;				 /* it keeps a log: */
	struct trace_meta meta;			 /* its cases, */
	struct ept_hist recent[TRACE_CASES_MAX]; /* and their times since `before` */
};

/* The case of @name in @sample, or NULL. */
const struct top_case *top_case_named(const struct top_sample *sample, const char *name);
/* Times of the case of @name since the last sample; NULL: nothing is known of them. */
const struct ept_hist *top_recent(const struct top *top, const char *name);
/* So many a second, of a counter that was @before and is @now; 0 where there was no sample. */
double top_rate(const struct top *top, uint64_t before, uint64_t now);

/* --- as text ------------------------------------------------------------------------------- */

#define TOP_ROWS_MAX	200
#define TOP_COLUMNS_MAX 200

/* What is drawn: printable ASCII, and which of it stands out. */
struct top_page {
	unsigned rows, columns; /* that are to be used, at most */
	unsigned used;		/* rows */
	char text[TOP_ROWS_MAX][TOP_COLUMNS_MAX + 1];
	bool bold[TOP_ROWS_MAX][TOP_COLUMNS_MAX];
};

/* Lay out @top on a page of @page->rows times @page->columns. Says what does not fit. */
void top_lay_out(const struct top *top, struct top_page *page);
/* The map of it, from row @page->used on; top_map.c. */
void top_lay_out_map(const struct top *top, struct top_page *page);
/* A further line; cut at the right. False: no row is left. */
bool top_line(struct top_page *page, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* --- all VMs (top_vms.c) --------------------------------------------------------------------- */

#define TOP_SILENT_MS 500 /* what does not answer for so long is said to be silent */

struct top_vm {
	char name[VM_NAME_SIZE], state[TOP_NAME_MAX];
	bool seen;   /* at the last look */
	bool silent; /* it did not answer then: the rest is of before */
	uint64_t at, faults, resident, limit, uptime; /* now_ns(); -; bytes; 0: none; ns */
	double rate;				      /* faults a second since the look before */
};

struct top_vms {
	struct top_vm *vms; /* by their names */
	size_t nr, room;
	char selected[VM_NAME_SIZE]; /* a name; "": none */
	double every;		     /* seconds */
	uint64_t at;		     /* now_ns() of the last look */
};

/*
 * Ask all VMs of @dir at once. Once @signals is readable none is waited for. FOAL_EXIT_HOST. What
 * is there is freed by top_vms_free().
 */
int top_vms_look(struct top_vms *vms, const struct run_dir *dir, int signals,
		 struct foal_error *err);
void top_vms_free(struct top_vms *vms);
/* Select the one that is so many behind (negative: before) the one that is. */
void top_vms_move(struct top_vms *vms, int by);
void top_vms_lay_out(const struct top_vms *vms, struct top_page *page);

/* --- on a terminal ------------------------------------------------------------------------- */

enum top_key {
	TOP_KEY_NONE, /* no further one waits */
	TOP_KEY_QUIT,
	TOP_KEY_NEXT,	  /* sort */
	TOP_KEY_PREVIOUS, /* the same */
	TOP_KEY_ENTER,
	TOP_KEY_BACK,
	TOP_KEY_ANSWER, /* top_screen_answer() has another interval */
	TOP_KEY_OTHER	/* draw again */
};

/* Take the terminal; FOAL_EXIT_USAGE, FOAL_EXIT_HOST. top_screen_close() gives it back. */
int top_screen_open(struct foal_error *err);
void top_screen_close(void);
/* The size that the terminal has now, for who lays out @page; then draw it. */
void top_screen_measure(struct top_page *page);
void top_screen_draw(const struct top_page *page);
enum top_key top_screen_key(void);
const char *top_screen_answer(void);

/* --- the command ------------------------------------------------------------------------------ */

struct top_options {
	struct remote_options remote; /* first; its name NULL: all VMs */
	bool batch;
	double every;
	unsigned count; /* 0: until it is ended */
	int sort;
};

#define TOP_BATCH_ROWS 60

/* Seconds between two looks. False: @value is none. */
bool top_take_every(const char *value, double *every);
/* @page on standard output, and a blank line. */
int top_print(const struct top_page *page, struct foal_error *err);
/*
 * Watch one VM on the terminal that is open, until somebody goes back, or it ends: true; false: it
 * is all to end, by a key or by a signal, which still waits.
 */
bool top_one(const struct top_options *opt, const struct run_dir *dir, const char *name);
/* top_all.c: all VMs. An exit status. */
int top_all(const struct top_options *opt);

int command_top(int argc, char **argv, uint64_t main_ns);
void top_help(void);

#endif
