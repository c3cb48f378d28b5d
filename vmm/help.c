/* foal help, foal version: what the commands, options and tables mean. */
#include <stdio.h>
#include <string.h>

#include "ept/ept.h"
#include "vmm/bench.h"
#include "vmm/cpu.h"
#include "vmm/error.h"
#include "vmm/options.h"
#include "vmm/remote.h"
#include "vmm/remote_trace.h"
#include "vmm/replay.h"
#include "vmm/report.h"
#include "vmm/run.h"
#include "vmm/top.h"

static void doctor_help(void)
{
	puts("usage: foal doctor\n\n"
	     "What this host offers, and how to mend what is missing. Ends with 0 if everything\n"
	     "that foal uses is there, 1 if it runs with less, 101 if it cannot run.");
}

static void version_help(void)
{
	puts("usage: foal version\n\n"
	     "The commit this foal was built from; \"dirty\" says that its files had changed.");
}

/* Of the table that --stats prints, and of its JSON. */
static void cases_help(void)
{
	puts("Each fault that foal sees ends as one of these cases (docs/fault-paths.md):\n");
	for (int c = 0; c < EPT_NR_CASES; c++)
		printf("  %-15s %s\n", ept_case_name((enum ept_case)c),
		       ept_case_what((enum ept_case)c));
}

static void all_help(void);

/* In the order of the help. The last word is what foal help wants to hear. */
static const struct {
	const char *name, *what;
	void (*print)(void);
} topics[] = {
    {"run", "boot a kernel on lazily backed memory", options_usage},
    {"ps", "list the running VMs that have a name", ps_help},
    {"console", "the console of a running VM, by its name", console_help},
    {"pause", "bring a running VM to rest", pause_help},
    {"resume", "let a paused VM go on", resume_help},
    {"stop", "have a VM switch off, or end it", stop_help},
    {"stat", "what a running VM did so far, in figures", stat_help},
    {"trace", "each fault of a running VM: where it came from, what it cost", trace_help},
    {"report", "a trace as a page for a browser", report_help},
    {"top", "a live view of a running VM: its faults, and what of its memory is there", top_help},
    {"replay", "what other settings would make of faults that were traced", replay_help},
    {"balloon", "how much of its memory a running VM is to keep", balloon_help},
    {"snapshot", "freeze a running VM into a directory", snapshot_help},
    {"fork", "make more VMs of a running one", fork_help},
    {"template", "keep a running VM ready to be cloned", template_help},
    {"clone", "make VMs of a template", clone_help},
    {"restore", "bring a frozen VM back", restore_help},
    {"verify", "check every byte of a snapshot", verify_help},
    {"reset", "have a running VM go back to where it was, in place", reset_help},
    {"doctor", "what this host offers, and what to do about what is missing", doctor_help},
    {"bench", "what faults, exits, restores, clones and forks cost here", bench_help},
    {"version", "what this foal was built from", version_help},
    {"help", "this text; with a command's name, what that one takes", all_help},
    {"help cpu", "names of processor features, for --cpu", cpu_features_print},
    {"help cases", "what the cases of faults mean, for the table after a run", cases_help},
};

#define NR_TOPICS (sizeof(topics) / sizeof(topics[0]))

static void all_help(void)
{
	puts("foal: virtual machines whose memory is not there until it is touched\n");
	for (size_t i = 0; i < NR_TOPICS; i++)
		printf("  foal %-11s %s\n", topics[i].name, topics[i].what);
	putchar('\n');
	options_usage();
}

int command_help(int argc, char **argv, uint64_t main_ns)
{
	const char *word = argc > 1 ? argv[1] : "help";

	(void)main_ns;
	if (argc > 2)
		return usage_error("help: %s: one word at most; see foal help", argv[2]);
	for (size_t i = 0; i < NR_TOPICS; i++) {
		const char *blank = strchr(topics[i].name, ' ');
		if (strcmp(word, blank ? blank + 1 : topics[i].name) == 0) {
			topics[i].print();
			return 0;
		}
	}
	return usage_error("help: %s: no such command; see foal help", word);
}

int command_version(int argc, char **argv, uint64_t main_ns)
{
	(void)argv, (void)main_ns;
	if (argc > 1)
		return usage_error("version: takes no arguments");
	printf("foal %s\n", foal_version);
	return 0;
}
