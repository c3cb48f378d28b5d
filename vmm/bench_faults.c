/* foal bench faults: the command line. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/bench.h"
#include "vmm/series.h"

#define ROUNDS 9
static const struct {
	const char *name;
	int argument;
	const char *value, *help;
} words[] = {
    {"json", optional_argument, "[FILE]", "the rows as JSON: to FILE, or instead of the table"},
    {"rounds", required_argument, "N", "samples a row, 1 to 64 (9); a third of it in detail"},
    {"only", required_argument, "PATTERN", "cases whose name matches, such as 'file.*'"},
    {"detail", no_argument, "", "also each path, window, pattern, cache, engine by itself"},
    {"pages", required_argument, "N", "touch no more than N pages a sample"},
    {"dir", required_argument, "DIR", "where files of 64 and 256 MiB may lie (/var/tmp)"},
    {"host-swap", no_argument, "", "as root: a swap file in DIR meanwhile, where there is no swap"},
    {"list", no_argument, "", "the rows and their bars, nothing measured"},
    {"help", no_argument, "", "this text"},
};

enum word { JSON, NUMBER_OF_ROUNDS, ONLY, IN_DETAIL, PAGES, DIR, HOST_SWAP, LIST, HELP, WORDS };

void bench_help(void)
{
	puts("usage: foal bench faults [option...]\n\n"
	     "What a page costs a guest, beside the plain alternative, in one run.\n");
	for (size_t i = 0; i < WORDS; i++)
		printf("  --%-9s %-8s %s\n", words[i].name, words[i].value, words[i].help);
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
	case NUMBER_OF_ROUNDS:
		r = number(words[word].name, value, SERIES_MAX, &n, err);
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

static int parse(int argc, char **argv, struct bench_options *out, struct foal_error *err)
{
	struct option longs[WORDS + 1] = {0};
	int i, r = 0;

	*out = (struct bench_options){.dir = "/var/tmp", .rounds = ROUNDS};
	for (int w = 0; w < WORDS; w++)
		longs[w] = (struct option){words[w].name, words[w].argument, NULL, w};
	opterr = 0;
	while (r == 0 && (i = getopt_long(argc, argv, ":", longs, NULL)) != -1) {
		if (i == ':' || i == '?') {
			r = error_set(err, FOAL_EXIT_USAGE, -EINVAL, "bench: %s: %s",
				      argv[optind - 1],
				      i == ':' ? "needs a value"
					       : "no such option; see foal bench faults --help");
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

static void list(const struct bench_options *opt)
{
	for (size_t i = 0; i < bench_case_count; i++)
		for (unsigned m = 0; m < BENCH_MEASURES; m++) {
			const struct bench_case *c = &bench_cases[i];
			char name[64], bar[32];
			if (!bench_chosen(opt, c) || !c->measures[m].metric)
				continue;
			bench_row_name(c, m, name, sizeof(name));
			bench_bar_text(c->measures[m].bar, bar, sizeof(bar));
			printf("%-39s %-4s bar %-14s %s\n", name, bench_unit(c->measures[m].metric),
			       bar, c->options);
		}
}

int command_bench(int argc, char **argv, uint64_t main_ns)
{
	struct foal_error err = {0};
	struct bench_options opt;
	unsigned broken = 0;
	int r = 0;

	(void)main_ns;
	if (argc < 2 || strcmp(argv[1], "faults") != 0)
		r = error_set(&err, FOAL_EXIT_USAGE, -EINVAL,
			      "bench: there is one: foal bench faults");
	if (r == 0)
		r = parse(argc - 1, argv + 1, &opt, &err);
	if (r == 0 && opt.help)
		bench_help();
	else if (r == 0 && opt.list)
		list(&opt);
	else if (r == 0)
		r = bench_measure(&opt, &broken, &err);
	if (r) {
		error_print(&err);
		return err.status;
	}
	return broken ? 1 : 0;
}
