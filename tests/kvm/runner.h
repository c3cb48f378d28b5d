/*
 * Running build/foal from a test: started with arguments, given input, waited
 * for with a limit, and what it said and counted taken apart.
 *
 * A helper that cannot do its work fails the running test; none returns an
 * error. Paths come from the environment: FOAL (build/foal), GUESTS
 * (build/tests/guests), GUEST_IMAGES (build/guest), relative to the top.
 */
#ifndef TEST_KVM_RUNNER_H
#define TEST_KVM_RUNNER_H

#include <check.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <termios.h>

#include "guest/user/lib/sha256.h"
#include "tests/emulated_host.h"
#include "tests/scratch.h"

/*
 * Seconds after which a run that should have ended has failed its test, those that Check gives
 * a test (times LIMITS_TIMES), and --time-limit of guests that may get stuck. Limits to
 * stop what hangs: no guest that ended was seen to take half of that.
 */
#define RUN_LIMIT   300
#define TEST_LIMIT  180
#define GUEST_LIMIT "280"

struct run {
	pid_t pid;
	int in, out, err; /* -1: closed; on a terminal in and out are its one end */
	int terminal;	  /* its other end, foal's; -1: no terminal */
	char *out_text;	  /* standard output so far, always terminated */
	char *err_text;	  /* standard error so far; on a terminal it is in out_text */
	size_t out_len, err_len;
	int status; /* after run_wait(): exit status (127: not even started), or minus a signal */
	json_t *stats;	      /* after run_wait(): what --stats json wrote, or NULL */
	struct termios modes; /* after run_wait(): the terminal's, as foal left it */
	char stats_path[64];
};

/* How to start: zeros are the plain way. */
struct run_how {
	bool terminal;		    /* on a new pseudo terminal, for all three */
	bool plain;		    /* the arguments as they are: no `run`, no --stats */
	char run_dir[64];	    /* where VMs have their names; empty: the test's own */
	void (*prepare)(void *arg); /* called in the child; may _exit() */
	void *arg;
};

/* The arguments of one call, so that a list can be written in place. */
#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* `foal run ARGS --stats json --stats-file ...`, started and not waited for. */
void run_start(struct run *run, const struct run_how *how, const char *const *args);

/* Read what it says until @text was on standard output (or on the terminal). */
void run_until(struct run *run, const char *text);
void run_until_error(struct run *run, const char *text);

void run_type(struct run *run, const void *text, size_t len);

/* Wait for its end, RUN_LIMIT at most, and read the rest. */
void run_wait(struct run *run);
void run_free(struct run *run);

/* Start and wait. */
void run_foal(struct run *run, const char *const *args);

/* Run @guest with --append @append and three more arguments (NULL: fewer); it must end with 0. */
void run_guest(struct run *run, const char *guest, const char *append, const char *a, const char *b,
	       const char *c, const char *d);

/* Lines of standard error that begin with "foal: ". */
unsigned foal_lines(const struct run *run);

/* The run ended with @status, and standard error is one "foal: " line with @words in it. */
void expect_end(const struct run *run, int status, const char *words);

/* `foal run @args` does, before a guest has said anything. */
void expect_refusal(const char *const *args, int status, const char *words);

/* --- what it counted --------------------------------------------------------- */

/*
 * The sum of @counter ("faults", "major", ...) of case @kase over the areas
 * whose name starts with @area; NULL for either: all of them.
 */
uint64_t count_of(const struct run *run, const char *area, const char *kase, const char *counter);

/* The member @name of the object @object ("resident", "reclaim", ...). */
uint64_t stats_number(const struct run *run, const char *object, const char *name);
/* The member @name of the area whose name starts with @area; it must exist. */
uint64_t area_number(const struct run *run, const char *area, const char *name);
const char *area_string(const struct run *run, const char *area, const char *name);
/* The same of its `led`, and of what was read ahead for it. */
uint64_t led_of(const struct run *run, const char *area, const char *counter);
uint64_t ahead_of(const struct run *run, const char *area, const char *counter);

/* Bytes read of the file used as @use, and its size. */
uint64_t file_read(const struct run *run, const char *use);
uint64_t file_size(const struct run *run, const char *use);

/* Every event ended as exactly one case (docs/stats.md). */
void check_events(const struct run *run);

/* The parts of its `reconciliation` close, of a running VM's, too; how many are in flight. */
uint64_t check_reconciliation(const json_t *stats);

/* --- files ------------------------------------------------------------------- */

const char *guest_path(const char *name);
const char *image_path(const char *name);
const char *foal_path(void);

/* A file of @pages pages that begin with FILE_PATTERN(page); its path. */
const char *make_pmem(const char *name, unsigned pages);
/* The same, of pages that cannot be compressed. */
const char *make_random_pmem(const char *name, unsigned pages);
void write_file(const char *path, const void *data, size_t len);
void *read_file(const char *path, size_t *len);
/* A copy of @from as scratch file @name; its path. */
const char *copy_file(const char *from, const char *name);
bool same_files(const char *a, const char *b);
/* The first word of page @page of the file. */
uint64_t page_word(const char *path, unsigned page);

/* --- ext file systems, through mke2fs, debugfs and e2fsck of e2fsprogs ---------- */

/* Run a program of the host, its output in @out (NULL: dropped); its exit status, 127: not there.
 */
int run_tool(const char *out, const char *const *argv);

/* An ext2 image of @size (as mke2fs takes it) with what is in the folder @tree. */
void make_ext2(const char *image, const char *tree, const char *block_size, const char *size);
/* A file inside an image; free() it. */
unsigned char *file_in_image(const char *image, const char *path, size_t *len);
void sum_in_image(const char *image, const char *path, char sum[SHA256_HEX]);
void expect_fs_clean(const char *image);

/* What programs printed on the guest kernel's console: without '\r', nor the kernel's last words.
 */
void guest_lines(char *text);

/* Count the running test as skipped and end it. */
_Noreturn void skip(const char *why);
bool is_root(void);
bool have_userfaultfd(void);
/* The host's kernel is of this version or a newer one. */
bool linux_at_least(int major, int minor);

#endif
