/* foal replay: its command line. */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/bench.h"
#include "vmm/option_values.h"
#include "vmm/remote.h"
#include "vmm/replay.h"

#define NS_MAX 100000000U

struct replay_options {
	const char *file;
	unsigned fault_around; /* 0: as recorded */
	int huge, prefetch;    /* -1: the same */
	bool limits;	       /* --memory-limit was given */
	uint64_t memory_limit;
	struct replay_given given;
	bool json;
};

void replay_help(void)
{
	puts("usage: foal replay FILE [--fault-around PAGES] [--huge auto|always|never]\n"
	     "                   [--memory-limit SIZE] [--prefetch off|set|all]\n"
	     "                   [--way-ns NS] [--page-ns NS] [--json]\n\n"
	     "What the faults that foal trace wrote to FILE would have been with other settings:\n"
	     "how many of each case, what they bring and read, how long it takes; beside it what\n"
	     "was recorded. Best of a VM that ran with --fault-engine handler --fault-around 1\n"
	     "--huge never: then each page that it touched has a record.\n\n"
	     "  --fault-around PAGES   a power of two up to 512 (as it was recorded)\n"
	     "  --huge WORD            2 MiB pages (as it was recorded)\n"
	     "  --memory-limit SIZE    at least 16M; off: none (as it was recorded)\n"
	     "  --prefetch WORD        of a restore: bring ahead nothing, the working set that\n"
	     "                         the trace makes, or all that it asked for (as it was\n"
	     "                         recorded: best by the restore that records a set)\n"
	     "  --way-ns NS            what a fault costs besides being handled (measured here)\n"
	     "  --page-ns NS           what a first touch of a page that is there costs (2000, of\n"
	     "                         files measured here)\n"
	     "  --json                 the same, for programs");
}

static int take_around(const char *value, struct replay_options *out)
{
	struct foal_error err = {0};

	if (option_count("fault-around", value, 1, TRACE_AROUND_MAX, &out->fault_around, &err) ||
	    out->fault_around & (out->fault_around - 1))
		return usage_error("replay: --fault-around %s: give a power of two, 1 to %u", value,
				   TRACE_AROUND_MAX);
	return 0;
}

static int take_huge(const char *value, struct replay_options *out)
{
	struct foal_error err = {0};

	if (option_word("huge", value, trace_huges, &out->huge, &err))
		return usage_error("replay: --huge %s: give auto, always or never", value);
	return 0;
}

static int take_prefetch(const char *value, struct replay_options *out)
{
	int how = EPT_PREFETCH_OFF;

	while (how <= EPT_PREFETCH_ALL && strcmp(value, trace_prefetches[how]) != 0)
		how++;
	if (how > EPT_PREFETCH_ALL)
		return usage_error("replay: --prefetch %s: give off, set or all", value);
	out->prefetch = how;
	return 0;
}

static int take_limit(const char *value, struct replay_options *out)
{
	struct foal_error err = {0};

	out->limits = true;
	if (strcmp(value, "off") == 0)
		return 0;
	if (option_size("memory-limit", value, &out->memory_limit, &err) ||
	    out->memory_limit < EPT_LIMIT_FLOOR)
		return usage_error("replay: --memory-limit %s: give at least 16M, or off", value);
	return 0;
}

static int take_ns(const char *name, const char *value, double *out)
{
	struct foal_error err = {0};
	unsigned ns;

	if (option_count(name, value, 1, NS_MAX, &ns, &err))
		return usage_error("replay: --%s %s: give nanoseconds, 1 to %u", name, value,
				   NS_MAX);
	*out = ns;
	return 0;
}

static int take_option(int option, const char *value, struct replay_options *out)
{
	if (option == 'a')
		return take_around(value, out);
	if (option == 'h')
		return take_huge(value, out);
	if (option == 'l')
		return take_limit(value, out);
	if (option == 'f')
		return take_prefetch(value, out);
	if (option == 'p') {
		int r = take_ns("page-ns", value, &out->given.page_ns);
		out->given.file_page_ns = out->given.page_ns;
		return r;
	}
	if (option == 'w')
		return take_ns("way-ns", value, &out->given.way_ns);
	out->json = true;
	return 0;
}

static int parse(int argc, char **argv, struct replay_options *out)
{
	static const struct option longs[] = {{"fault-around", required_argument, NULL, 'a'},
					      {"huge", required_argument, NULL, 'h'},
					      {"memory-limit", required_argument, NULL, 'l'},
					      {"prefetch", required_argument, NULL, 'f'},
					      {"page-ns", required_argument, NULL, 'p'},
					      {"way-ns", required_argument, NULL, 'w'},
					      {"json", no_argument, NULL, 'j'},
					      {0}};
	int i, r = 0;

	*out = (struct replay_options){
	    .huge = -1, .prefetch = -1, .given = {.page_ns = REPLAY_PAGE_NS}};
	opterr = 0;
	while (r == 0 && (i = getopt_long(argc, argv, ":", longs, NULL)) != -1) {
		if (i == ':')
			r = usage_error("replay: %s needs a value", argv[optind - 1]);
		else if (i == '?')
			r = usage_error("replay: %s: no such option; see foal help replay",
					argv[optind - 1]);
		else
			r = take_option(i, optarg, out);
	}
	if (r)
		return r;
	if (optind == argc)
		return usage_error("replay: a FILE of foal trace is needed; see foal help replay");
	if (optind + 1 < argc)
		return usage_error("replay: %s: not taken; see foal help replay", argv[optind + 1]);
	out->file = argv[optind];
	return 0;
}

/* What was not asked for stays as it was recorded. 0, or -EINVAL: it cannot be together. */
static int settle(const struct replay_options *opt, struct replay *replay, struct foal_error *err)
{
	const struct trace_meta *meta = replay->trace.meta;

	replay->was = meta->has_settings
			  ? meta->settings
			  : (struct trace_settings){.fault_around = TRACE_AROUND_DEFAULT,
						    .huge = EPT_HUGE_AUTO};
	replay->to = replay->was;
	if (opt->fault_around)
		replay->to.fault_around = opt->fault_around;
	if (opt->huge >= 0)
		replay->to.huge = (enum ept_huge)opt->huge;
	if (opt->limits)
		replay->to.memory_limit = opt->memory_limit;
	if (opt->prefetch >= 0 && replay->was.prefetch == EPT_PREFETCH_NONE)
		return error_set(err, FOAL_EXIT_USAGE, -EINVAL,
				 "replay: --prefetch: %s is of no VM that foal restore made; leave "
				 "it out",
				 opt->file);
	if (opt->prefetch >= 0)
		replay->to.prefetch = (enum ept_prefetch_how)opt->prefetch;
	if (replay->to.memory_limit && replay->to.prefetch == EPT_PREFETCH_ALL)
		return error_set(err, FOAL_EXIT_USAGE, -EINVAL,
				 "replay: --prefetch all: a memory limit has no room for all; give "
				 "--memory-limit off");
	if (!replay->to.memory_limit || replay->to.huge != EPT_HUGE_ALWAYS)
		return 0;
	return error_set(err, FOAL_EXIT_USAGE, -EINVAL,
			 "replay: --memory-limit: pages are reclaimed by 4 KiB; leave --huge "
			 "always out, or give --memory-limit off");
}

static void put(const struct replay *replay, bool as_json)
{
	if (!as_json) {
		replay_print(replay);
		return;
	}
	json_t *json = replay_json(replay);
	json_dumpf(json, stdout, JSON_INDENT(2) | JSON_ENSURE_ASCII);
	puts("");
	json_decref(json);
}

/* Whoever ends it meanwhile finds nothing left in the directory, nor that. */
static int measure(struct replay_given *given, struct foal_error *err)
{
	char dir[PATH_MAX];
	sigset_t ending = bench_signals();
	int came = 0;

	if (given->way_ns > 0 && given->file_page_ns > 0)
		return 0;
	replay_temporary(dir, sizeof(dir), "");
	sigprocmask(SIG_BLOCK, &ending, NULL);
	if (mkdtemp(dir)) {
		came = replay_probe(dir, given);
		rmdir(dir);
	}
	sigprocmask(SIG_UNBLOCK, &ending, NULL);
	if (came)
		return error_set(err, (enum foal_exit)(FOAL_EXIT_SIGNAL + came), -EINTR,
				 "replay: ended by signal %d (%s), nothing is predicted", came,
				 strsignal(came));
	if (given->way_ns <= 0)
		notice("replay: no guest can be run here to measure a fault's way: it is taken for "
		       "as long as the trace allows; --way-ns says it");
	return 0;
}

int command_replay(int argc, char **argv, uint64_t main_ns)
{
	struct replay replay = {0};
	struct foal_error err = {0}, damage = {0};
	struct replay_options opt;
	int r = parse(argc, argv, &opt);

	(void)main_ns;
	if (r)
		return r;
	r = replay_trace_load(&replay.trace, opt.file, &damage);
	if (r == 0)
		r = settle(&opt, &replay, &err);
	if (r == 0)
		r = measure(&opt.given, &err);
	if (r == 0)
		r = replay_predict(&replay, &opt.given, &err);
	if (r == 0)
		put(&replay, opt.json);
	replay_free(&replay);
	if (err.status && damage.status)
		error_print(&damage);
	return remote_finish(err.status ? &err : &damage, 0);
}
