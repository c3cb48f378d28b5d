/* foal bench: the command line. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/bench.h"
#include "vmm/series.h"

#define ROUNDS	  9

/* Whose words they are. */
#define FAULTS	  1
#define SNAPSHOTS 2
#define EXITS	  4
#define REPLAY	  8
#define ALL	  (FAULTS | SNAPSHOTS | EXITS | REPLAY)

static const struct {
	const char *name;
	int argument, whose;
	const char *value, *help;
} words[] = {
    {"json", optional_argument, ALL, "[FILE]", "the rows as JSON: to FILE, or not the table"},
    {"rounds", required_argument, ALL, "N", "samples a row, 1 to 64 (9); of some more or less"},
    {"only", required_argument, ALL, "PATTERN", "rows whose name matches, such as 'file.*'"},
    {"detail", no_argument, FAULTS, "", "also each path, window, pattern, cache, engine by itself"},
    {"pages", required_argument, ALL, "N",
     "touch no more than N pages, or exit so often, a sample"},
    {"dir", required_argument, ALL, "DIR", "where files of some GiB may lie (/var/tmp)"},
    {"host-swap", no_argument, FAULTS, "", "as root: a swap file in DIR, where there is no swap"},
    {"bare", required_argument, SNAPSHOTS, "FILE",
     "the plain program (build/tests/bench/bare_kvm)"},
    {"list", no_argument, ALL, "", "the rows and their bars, nothing measured"},
    {"help", no_argument, ALL, "", "this text"},
};

enum word { JSON, ROUNDS_WORD, ONLY, IN_DETAIL, PAGES, DIR, HOST_SWAP, BARE, LIST, HELP, WORDS };

static const struct bench_kind {
	const char *name, *what;
	int is;
	void (*list)(const struct bench_options *opt);
	int (*measure)(const struct bench_options *opt, unsigned *broken, struct foal_error *err);
} kinds[] = {
    {"faults", "what a page costs a guest", FAULTS, bench_list, bench_measure},
    {"snapshots", "what restores, clones, forks and resets cost", SNAPSHOTS, bench_snapshots_list,
     bench_snapshots_measure},
    {"exits", "what each way out of the guest costs", EXITS, bench_list, bench_measure},
    {"replay", "what foal replay predicts, and what then is", REPLAY, bench_replay_list,
     bench_replay_measure},
};

#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

void bench_help(void)
{
	puts("usage: foal bench faults|snapshots|exits|replay [option...]\n\n"
	     "Measured beside the plain alternative, in one run:\n");
	for (size_t i = 0; i < KINDS; i++)
		printf("  %-9s  %s\n", kinds[i].name, kinds[i].what);
	putchar('\n');
	for (size_t i = 0; i < WORDS; i++)
		printf("  --%-9s %-8s %s%s\n", words[i].name, words[i].value, words[i].help,
		       words[i].whose == ALL	  ? ""
		       : words[i].whose == FAULTS ? " (faults)"
						  : " (snapshots)");
	puts("\nEnds with 0, with 1 if a bar does not hold, or from 100 up as foal run does.");
}

static int bad(struct foal_error *err, const char *word, const char *value, const char *want)
{
	return error_set(err, FOAL_EXIT_USAGE, -EINVAL, "bench: --%s %s: give %s", word, value,
			 want);
}

static int number(const char *word, const char *value, unsigned long max, unsigned long *out,
		  struct foal_error *err)
{
	char *end, want[64];

	errno = 0;
	*out = strtoul(value, &end, 10);
	if (value[0] >= '0' && value[0] <= '9' && !*end && !errno && *out >= 1 && *out <= max)
		return 0;
	snprintf(want, sizeof(want), "a whole number from 1 to %lu", max);
	return bad(err, word, value, want);
}

static int take(enum word word, const char *value, struct bench_options *out,
		struct foal_error *err)
{
	unsigned long n = 0;
	int r = 0;

	switch (word) {
	case JSON:
		out->json = value ? value : "";
		break;
	case ROUNDS_WORD:
		r = number(words[word].name, value, BENCH_ROUNDS, &n, err);
		out->rounds = (unsigned)n;
		break;
	case ONLY:
		out->only = value;
		break;
	case IN_DETAIL:
		out->detail = true;
		break;
	case PAGES:
		r = number(words[word].name, value, 1UL << 30, &n, err);
		out->pages = n;
		break;
	case DIR:
		out->dir = value;
		break;
	case HOST_SWAP:
		out->host_swap = true;
		break;
	case BARE:
		out->bare = value;
		break;
	case LIST:
		out->list = true;
		break;
	case HELP:
		out->help = true;
		break;
	case WORDS:
		break;
	}
	return r;
}

static int parse(int argc, char **argv, int whose, struct bench_options *out,
		 struct foal_error *err)
{
	struct option longs[WORDS + 1] = {0};
	int i, r = 0, n = 0;

	*out = (struct bench_options){.dir = "/var/tmp", .rounds = ROUNDS, .exits = whose == EXITS};
	for (int w = 0; w < WORDS; w++)
		if (words[w].whose & whose)
			longs[n++] = (struct option){words[w].name, words[w].argument, NULL, w};
	opterr = 0;
	while (r == 0 && (i = getopt_long(argc, argv, ":", longs, NULL)) != -1) {
		if (i == ':' || i == '?') {
			r = error_set(
			    err, FOAL_EXIT_USAGE, -EINVAL, "bench: %s: %s", argv[optind - 1],
			    i == ':' ? "needs a value" : "no such option; see foal help bench");
			break;
		}
		const char *value = optarg;
		if (i == JSON && !value && optind < argc && argv[optind][0] != '-')
			value = argv[optind++];
		r = take((enum word)i, value, out, err);
	}
	if (r == 0 && optind < argc)
		r = error_set(err, FOAL_EXIT_USAGE, -EINVAL, "bench: %s: not an option",
			      argv[optind]);
	return r;
}

static const struct bench_kind *kind_of(int argc, char **argv)
{
	for (size_t i = 0; argc > 1 && i < KINDS; i++)
		if (strcmp(argv[1], kinds[i].name) == 0)
			return &kinds[i];
	return NULL;
}

int command_bench(int argc, char **argv, uint64_t main_ns)
{
	const struct bench_kind *kind = kind_of(argc, argv);
	struct foal_error err = {0};
	struct bench_options opt;
	unsigned broken = 0;

	(void)main_ns;
	if (!kind)
		return usage_error("bench: which one: foal bench faults, foal bench snapshots, "
				   "foal bench exits, or foal bench replay");
	int r = parse(argc - 1, argv + 1, kind->is, &opt, &err);
	if (r == 0 && opt.help)
		bench_help();
	else if (r == 0 && opt.list)
		kind->list(&opt);
	else if (r == 0)
		r = kind->measure(&opt, &broken, &err);
	if (r) {
		error_print(&err);
		return err.status;
	}
	return broken ? 1 : 0;
}
