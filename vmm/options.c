#include "vmm/options.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char usage_text[] =
    "usage: foal run --kernel FILE [option...]\n"
    "\n"
    "  --kernel FILE                   64-bit ELF kernel with a PVH entry point\n"
    "  --initrd FILE                   initial RAM disk, handed to the kernel as it is\n"
    "  --append STRING                 kernel command line\n"
    "  --memory SIZE                   guest memory, e.g. 256M or 4G (256M)\n"
    "  --cpus N                        vCPUs (1)\n"
    "  --disk FILE[,mode=ro|cow|shared]  a virtio-blk disk; may be repeated (cow)\n"
    "  --pmem FILE[,mode=ro|cow|shared]  a file in guest-physical memory; may be repeated (cow)\n"
    "        ro      the guest cannot write\n"
    "        cow     the guest writes to copies; the file is never written\n"
    "        shared  the guest's flushed writes are in the file\n"
    "  --name NAME                     the VM's name in messages (vm-PID)\n"
    "  --fault-engine auto|handler|kernel\n"
    "        who resolves nested faults: foal's handlers or the host kernel (auto:\n"
    "        handlers where userfaultfd may be used)\n"
    "  --fault-around PAGES            pages mapped a read fault of a file, 1..512 (16)\n"
    "  --halt guest|exit               whether an idle vCPU stays in the guest: `guest`\n"
    "        keeps faults exact, `exit` gives the CPU back on hardware (guest)\n"
    "  --time-limit SECONDS            stop a guest that has not ended by then\n"
    "  --stats table|json|off          what to print after the run (table, on stderr);\n"
    "        with json the console moves to stderr and stdout is the JSON alone\n"
    "  --stats-file FILE               write it there instead\n"
    "\n"
    "On a terminal, Ctrl-A x ends the run and Ctrl-A Ctrl-A types a Ctrl-A.\n"
    "The guest's own status, 0..99, is foal's; from 100 up it is foal speaking\n"
    "(docs/exit-statuses.md).\n";

void options_usage(void)
{
	fputs(usage_text, stdout);
}

static int bad(struct foal_error *err, const char *opt, const char *value, const char *what)
{
	return error_set(err, FOAL_EXIT_USAGE, -EINVAL, "run: --%s %s: %s", opt, value, what);
}

static int parse_count(const char *opt, const char *value, unsigned low, unsigned high,
		       unsigned *out, struct foal_error *err)
{
	char *end;
	errno = 0;
	unsigned long v = strtoul(value, &end, 10);

	if (!isdigit((unsigned char)value[0]) || *end || errno || v < low || v > high)
		return error_set(err, FOAL_EXIT_USAGE, -EINVAL,
				 "run: --%s %s: give a whole number from %u to %u", opt, value, low,
				 high);
	*out = (unsigned)v;
	return 0;
}

/* A size always has a unit: "256" would mean bytes to some and MiB to others. */
static int parse_memory(const char *value, uint64_t *out, struct foal_error *err)
{
	static const char units[] = "KMGT";
	char *end;
	errno = 0;
	unsigned long long v = strtoull(value, &end, 10);
	const char *unit = *end ? strchr(units, toupper((unsigned char)*end)) : NULL;

	if (!isdigit((unsigned char)value[0]) || errno || !unit || end[1])
		return bad(err, "memory", value, "give a whole number and a unit, such as 256M");
	unsigned shift = 10 * (unsigned)(unit - units + 1);
	if (v == 0)
		return bad(err, "memory", value, "a guest needs memory; 256M is the default");
	if (v > (1ULL << EPT_GPA_BITS) >> shift)
		return bad(err, "memory", value, "more than guest-physical addresses can name");
	*out = (uint64_t)v << shift;
	if (*out % EPT_PAGE_SIZE)
		return bad(err, "memory", value, "give a multiple of 4K, the size of a page");
	return 0;
}

static int parse_file(const char *opt, const char *value, struct file_option *list, unsigned *count,
		      struct foal_error *err)
{
	static const char key[] = ",mode=";
	static const char *const modes[] = {
	    [DISK_RO] = "ro", [DISK_COW] = "cow", [DISK_SHARED] = "shared"};
	const char *comma = strrchr(value, ',');
	size_t length = strlen(value);
	enum disk_mode mode = DISK_COW;

	if (comma && strncmp(comma, key, strlen(key)) == 0) {
		const char *word = comma + strlen(key);
		unsigned m;
		for (m = 0; m < 3 && strcmp(word, modes[m]) != 0; m++)
			;
		if (m == 3)
			return bad(err, opt, value, "mode is ro, cow or shared");
		mode = (enum disk_mode)m;
		length = (size_t)(comma - value);
	}
	if (length == 0)
		return bad(err, opt, value, "give a file");
	list[*count].path = strndup(value, length);
	if (!list[*count].path)
		return error_set(err, FOAL_EXIT_HOST, -ENOMEM, "run: out of memory");
	list[(*count)++].mode = mode;
	return 0;
}

static int parse_word(const char *opt, const char *value, const char *const *words, int *out,
		      struct foal_error *err)
{
	char all[64];
	int n = 0;

	for (int i = 0; words[i]; i++) {
		if (strcmp(value, words[i]) == 0) {
			*out = i;
			return 0;
		}
		n += snprintf(all + n, sizeof(all) - (size_t)n, "%s%s", i ? ", " : "", words[i]);
	}
	return error_set(err, FOAL_EXIT_USAGE, -EINVAL, "run: --%s %s: one of %s", opt, value, all);
}

static int parse_name(const char *value, char *out, size_t size, struct foal_error *err)
{
	size_t n = strlen(value);

	if (n == 0 || n >= size)
		return bad(err, "name", value, "give 1 to 63 characters");
	for (size_t i = 0; i < n; i++) {
		if (!isalnum((unsigned char)value[i]) && !strchr("-_.", value[i]))
			return bad(err, "name", value, "letters, digits, '-', '_' and '.' only");
	}
	memcpy(out, value, n + 1);
	return 0;
}

enum {
	OPT_KERNEL = 1,
	OPT_INITRD,
	OPT_APPEND,
	OPT_MEMORY,
	OPT_CPUS,
	OPT_DISK,
	OPT_PMEM,
	OPT_NAME,
	OPT_ENGINE,
	OPT_AROUND,
	OPT_HALT,
	OPT_LIMIT,
	OPT_STATS,
	OPT_STATS_FILE,
};

static const struct option long_options[] = {
    {"kernel", required_argument, NULL, OPT_KERNEL},
    {"initrd", required_argument, NULL, OPT_INITRD},
    {"append", required_argument, NULL, OPT_APPEND},
    {"memory", required_argument, NULL, OPT_MEMORY},
    {"cpus", required_argument, NULL, OPT_CPUS},
    {"disk", required_argument, NULL, OPT_DISK},
    {"pmem", required_argument, NULL, OPT_PMEM},
    {"name", required_argument, NULL, OPT_NAME},
    {"fault-engine", required_argument, NULL, OPT_ENGINE},
    {"fault-around", required_argument, NULL, OPT_AROUND},
    {"halt", required_argument, NULL, OPT_HALT},
    {"time-limit", required_argument, NULL, OPT_LIMIT},
    {"stats", required_argument, NULL, OPT_STATS},
    {"stats-file", required_argument, NULL, OPT_STATS_FILE},
    {NULL, 0, NULL, 0},
};

static int parse_file_option(int opt, const char *value, struct run_options *out,
			     struct foal_error *err)
{
	if (out->disk_count + out->pmem_count == MAX_FILES)
		return error_set(err, FOAL_EXIT_USAGE, -E2BIG,
				 "run: %s: at most %d disks and pmems together", value, MAX_FILES);
	if (opt == OPT_DISK)
		return parse_file("disk", value, out->disks, &out->disk_count, err);
	return parse_file("pmem", value, out->pmems, &out->pmem_count, err);
}

static int parse_fault_around(const char *value, unsigned *out, struct foal_error *err)
{
	int r = parse_count("fault-around", value, 1, 512, out, err);

	if (r == 0 && (*out & (*out - 1)))
		r = bad(err, "fault-around", value, "give a power of two");
	return r;
}

static int parse_one(int opt, const char *value, struct run_options *out, struct foal_error *err)
{
	static const char *const engines[] = {"auto", "handler", "kernel", NULL};
	static const char *const halts[] = {"guest", "exit", NULL};
	static const char *const formats[] = {"table", "json", "off", NULL};
	int word = 0, r;

	switch (opt) {
	case OPT_KERNEL:
		out->kernel = value;
		return 0;
	case OPT_INITRD:
		out->initrd = value;
		return 0;
	case OPT_APPEND:
		out->append = value;
		return 0;
	case OPT_MEMORY:
		return parse_memory(value, &out->memory, err);
	case OPT_CPUS:
		return parse_count("cpus", value, 1, EPT_MAX_FAULT_THREADS, &out->cpus, err);
	case OPT_DISK:
	case OPT_PMEM:
		return parse_file_option(opt, value, out, err);
	case OPT_NAME:
		return parse_name(value, out->name, sizeof(out->name), err);
	case OPT_ENGINE:
		r = parse_word("fault-engine", value, engines, &word, err);
		out->engine = (enum engine_choice)word;
		return r;
	case OPT_AROUND:
		return parse_fault_around(value, &out->fault_around, err);
	case OPT_HALT:
		r = parse_word("halt", value, halts, &word, err);
		out->halt_exits = word == 1;
		return r;
	case OPT_LIMIT:
		return parse_count("time-limit", value, 1, 1000000, &out->time_limit, err);
	case OPT_STATS:
		r = parse_word("stats", value, formats, &word, err);
		out->stats = (enum stats_format)word;
		return r;
	default:
		out->stats_file = value;
		return 0;
	}
}

int options_parse(int argc, char **argv, struct run_options *out, struct foal_error *err)
{
	int opt, r = 0;

	*out = (struct run_options){.memory = 256UL << 20, .cpus = 1, .append = ""};
	snprintf(out->name, sizeof(out->name), "vm-%d", (int)getpid());
	opterr = 0;
	while (r == 0 && (opt = getopt_long(argc, argv, ":", long_options, NULL)) != -1) {
		if (opt == ':')
			r = error_set(err, FOAL_EXIT_USAGE, -EINVAL, "run: %s needs a value",
				      argv[optind - 1]);
		else if (opt == '?')
			r = error_set(err, FOAL_EXIT_USAGE, -EINVAL,
				      "run: %s: no such option; see foal help", argv[optind - 1]);
		else
			r = parse_one(opt, optarg, out, err);
	}
	if (r == 0 && optind < argc)
		r = error_set(err, FOAL_EXIT_USAGE, -EINVAL,
			      "run: %s: not an option; see foal help", argv[optind]);
	if (r == 0 && !out->kernel)
		r = error_set(err, FOAL_EXIT_USAGE, -EINVAL, "run: --kernel FILE is needed");
	if (r)
		options_free(out);
	return r;
}

void options_free(struct run_options *opt)
{
	for (unsigned i = 0; i < opt->disk_count; i++)
		free(opt->disks[i].path);
	for (unsigned i = 0; i < opt->pmem_count; i++)
		free(opt->pmems[i].path);
	opt->disk_count = opt->pmem_count = 0;
}
