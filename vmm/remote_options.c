/* The command lines of the commands to running VMs, and their help. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "vmm/fork.h"
#include "vmm/option_values.h"
#include "vmm/remote.h"

#define JSON	 1U
#define TIMEOUT	 2U
#define KILL	 4U
#define NAME	 8U
#define SIZE	 16U
#define DIR	 32U
#define DIFF	 64U
#define COMPRESS 128U
#define POOL	 512U
#define ONE	 1024U /* a name to be given */
#define COPIES	 256U  /* how many, their names, what is theirs */
#define HERE	 2048U
#define CLOCK	 4096U
#define POINT	 8192U
#define SWAP	 16384U
#define SOURCE	 32768U /* NAME may be a snapshot's DIR */
#define METRICS	 65536U

static const struct {
	const char *name;
	unsigned takes;
	const char *help;
} rows[] = {
    {"ps", JSON,
     "usage: foal ps [--json]\n\n"
     "The running VMs that have a name: process, state, vCPUs, memory in the host's of\n"
     "what the guest has, time since the start."},
    {"console", NAME,
     "usage: foal console NAME\n\n"
     "The guest's console: its last 64 KiB, and from then on both ways. Ctrl-] leaves it,\n"
     "and the VM goes on."},
    {"pause", NAME | JSON | TIMEOUT,
     "usage: foal pause NAME [--timeout SECONDS] [--json]\n\n"
     "Bring the VM to rest: no vCPU runs, no device does. If that takes longer (5 s), say\n"
     "why and let it go on. Its clocks go on meanwhile."},
    {"resume", NAME | JSON, "usage: foal resume NAME [--json]\n\nLet a paused VM go on."},
    {"stop", NAME | JSON | TIMEOUT | KILL,
     "usage: foal stop NAME [--timeout SECONDS] [--kill] [--json]\n\n"
     "Press the guest's power button, and end the VM if it has not switched off by then\n"
     "(10 s); --kill ends it at once. Disks are flushed either way. Returns when it is gone."},
    {"stat", NAME | JSON | METRICS,
     "usage: foal stat NAME [--json | --prometheus]\n\n"
     "The table that follows a run, its JSON, or the same as metrics (text format of Prometheus,\n"
     "0.0.4), of a running VM: as of now."},
    {"balloon", NAME | SIZE | JSON,
     "usage: foal balloon NAME SIZE [--json]\n\n"
     "Ask the guest to keep no more than SIZE of its memory (512M); it was started with\n"
     "--balloon on. It may do less: foal stat says what it gave."},
    {"snapshot", NAME | DIR | JSON | DIFF | COMPRESS,
     "usage: foal snapshot NAME DIR [--diff [PARENT]] [--compress zstd] [--json]\n"
     "       foal snapshot merge DIR [OUT] [--compress zstd] [--json]\n\n"
     "Freeze the VM into DIR: memory, processors, devices, what it wrote to disks. It stands\n"
     "still for some milliseconds only, and goes on while DIR is written. DIR is there when all\n"
     "of it is on the disk; a snapshot that was there before is replaced then.\n\n"
     "  --diff [PARENT]   only what differs from the snapshot PARENT, which has to stay where it\n"
     "                    is; without PARENT: from the VM's last one, or that it was restored "
     "from\n"
     "  --compress zstd   memory compressed, 64 KiB at a time\n\n"
     "merge makes of DIR and all that it is the difference to one snapshot that stands alone, in\n"
     "place of DIR or as OUT."},
    {"fork", NAME | COPIES | SWAP | CLOCK | JSON,
     "usage: foal fork NAME [-n COUNT] [--name PATTERN] [--clock freeze|jump]\n"
     "                 [--swap PATTERN] [--net NET]... [--vsock path=PATTERN] [--json]\n\n"
     "Make more VMs of a running one: each goes on where it is, with memory and disks shared as\n"
     "long as nobody writes. It stands still once, however many they are. Each is another VM:\n"
     "it has a name, and the guest is told. They are in the background, and live on when it\n"
     "ends.\n\n"
     "  -n, --count COUNT   how many (1)\n"
     "  --name PATTERN      of their names; % is the lowest number that is free (NAME.%)\n"
     "  --clock freeze|jump what their clocks say of the time it took (freeze)\n"
     "  --swap PATTERN      of their swap files, for a VM with --swap; % as in the name\n"
     "  --net NET           for each --net of the VM, in order, what each has in its place:\n"
     "                      user, or tap=PATTERN. Their addresses are made up\n"
     "  --vsock path=PATTERN  the same of its --vsock; their CIDs are made up"},
    {"template", NAME | SOURCE | ONE | POOL | JSON,
     "usage: foal template NAME|DIR [--name TEMPLATE] [--pool COUNT] [--json]\n\n"
     "Keep a running VM as it is now, ready to be cloned, any number of times; the VM goes on.\n"
     "Or the VM that foal snapshot froze into DIR (a path with a /): all of it is checked.\n"
     "A template is a process in the background with a name (NAME.template), that does not run;\n"
     "foal stop ends it, and its clones live on.\n\n"
     "  --pool COUNT   so many clones are made ready ahead (4)"},
    {"clone", NAME | COPIES | CLOCK | POINT | JSON,
     "usage: foal clone TEMPLATE [-n COUNT] [--name PATTERN] [--clock freeze|jump]\n"
     "                  [--reset-point] [--net NET]... [--vsock path=PATTERN] [--json]\n\n"
     "Make VMs of a template: each goes on where the VM was that the template was made of, with\n"
     "memory and disks shared as long as nobody writes. As foal fork has them otherwise.\n\n"
     "  --reset-point   foal reset takes each back to its template's state; none is of the pool"},
    {"reset", NAME | HERE | CLOCK | JSON,
     "usage: foal reset NAME [--json]\n"
     "       foal reset NAME --here [--clock freeze|jump] [--json]\n\n"
     "Have the VM go back, in place, to its reset point: memory, processors, devices, what it\n"
     "wrote to disks. --here sets the point: the state that the VM is in now. Its clocks then go\n"
     "back, too, at each reset (freeze), or go on (jump)."},
};

#define NR_ROWS (sizeof(rows) / sizeof(rows[0]))

static size_t row_of(const char *name)
{
	for (size_t i = 0; i < NR_ROWS; i++)
		if (strcmp(rows[i].name, name) == 0)
			return i;
	return 0;
}

static void print_help(const char *name)
{
	puts(rows[row_of(name)].help);
	puts("\n  --run-dir DIR   where foal run was told to have it found");
}

void ps_help(void)
{
	print_help("ps");
}

void console_help(void)
{
	print_help("console");
}

void pause_help(void)
{
	print_help("pause");
}

void resume_help(void)
{
	print_help("resume");
}

void stop_help(void)
{
	print_help("stop");
}

void stat_help(void)
{
	print_help("stat");
}

void balloon_help(void)
{
	print_help("balloon");
}

void snapshot_help(void)
{
	print_help("snapshot");
}

void fork_help(void)
{
	print_help("fork");
}

void template_help(void)
{
	print_help("template");
}

void clone_help(void)
{
	print_help("clone");
}

void reset_help(void)
{
	print_help("reset");
}

/* --- parsing --------------------------------------------------------------------------- */

static const struct {
	const char *name;
	unsigned bit; /* 0: every command has it */
	int has_value;
} options[] = {
    {"json", JSON, no_argument},
    {"prometheus", METRICS, no_argument},
    {"timeout", TIMEOUT, required_argument},
    {"kill", KILL, no_argument},
    {"diff", DIFF, no_argument},
    {"compress", COMPRESS, required_argument},
    {"run-dir", 0, required_argument},
    {"count", COPIES, required_argument},
    {"name", COPIES | ONE, required_argument},
    {"pool", POOL, required_argument},
    {"clock", CLOCK, required_argument},
    {"swap", SWAP, required_argument},
    {"net", COPIES, required_argument},
    {"vsock", COPIES, required_argument},
    {"here", HERE, no_argument},
    {"reset-point", POINT, no_argument},
};

#define NR_OPTIONS (sizeof(options) / sizeof(options[0]))

static int take_timeout(const char *value, struct remote_options *out)
{
	unsigned long most = strcmp(out->command, "pause") == 0 ? 60 : 3600;
	char *end;

	errno = 0;
	unsigned long n = strtoul(value, &end, 10);
	if (value[0] < '0' || value[0] > '9' || *end || errno || n > most)
		return usage_error("%s: --timeout %s: give whole seconds, 0 to %lu", out->command,
				   value, most);
	out->timeout = (unsigned)n;
	out->has_timeout = true;
	return 0;
}

static int take_number(const char *name, const char *value, unsigned least, unsigned most,
		       const struct remote_options *opt, unsigned *out)
{
	struct foal_error err = {0};

	if (option_count(name, value, least, most, out, &err))
		return usage_error("%s: --%s %s: give a whole number, %u to %u", opt->command, name,
				   value, least, most);
	return 0;
}

static int take_count(const char *value, struct remote_options *out)
{
	return take_number("count", value, 1, FORK_COUNT_MAX, out, &out->count);
}

static int take_clock(const char *value, struct remote_options *out)
{
	if (strcmp(value, "freeze") != 0 && strcmp(value, "jump") != 0)
		return usage_error("%s: --clock %s: give freeze or jump", out->command, value);
	out->clock = value;
	return 0;
}

static int take_net(const char *value, struct remote_options *out)
{
	if (out->ends.net_count == MAX_NETS)
		return usage_error("%s: --net %s: there are %d already", out->command, value,
				   MAX_NETS);
	out->ends.nets[out->ends.net_count++] = value;
	return 0;
}

static int take_option(const char *name, const char *value, struct remote_options *out)
{
	if (strcmp(name, "count") == 0)
		return take_count(value, out);
	if (strcmp(name, "pool") == 0)
		return take_number("pool", value, 0, FORK_POOL_MAX, out, &out->pool);
	if (strcmp(name, "timeout") == 0)
		return take_timeout(value, out);
	if (strcmp(name, "clock") == 0)
		return take_clock(value, out);
	if (strcmp(name, "net") == 0)
		return take_net(value, out);
	if (strcmp(name, "compress") == 0) {
		out->compress = value;
		return strcmp(value, "zstd") == 0
			   ? 0
			   : usage_error("%s: --compress %s: give zstd", out->command, value);
	}
	if (strcmp(name, "name") == 0)
		out->pattern = value;
	else if (strcmp(name, "swap") == 0)
		out->swap = value;
	else if (strcmp(name, "vsock") == 0)
		out->ends.vsock = value;
	else if (strcmp(name, "diff") == 0)
		out->diff = true;
	else if (strcmp(name, "run-dir") == 0)
		out->run_dir = value;
	else if (strcmp(name, "reset-point") == 0)
		out->reset_point = true;
	else if (strcmp(name, "here") == 0)
		out->here = true;
	else if (strcmp(name, "kill") == 0)
		out->kill = true;
	else if (strcmp(name, "prometheus") == 0)
		out->prometheus = true;
	else
		out->json = true;
	return 0;
}

static int take_size(struct remote_options *out)
{
	struct foal_error err = {0};

	if (option_size("SIZE", out->size_word, &out->size, &err))
		return usage_error("balloon: %s: give a whole number and a unit, such as 128M, "
				   "a multiple of 4K",
				   out->size_word);
	return 0;
}

static int needed(const struct remote_options *opt, const char *what)
{
	return usage_error("%s: %s is needed; see foal help %s", opt->command, what, opt->command);
}

static int take_words(int argc, char **argv, unsigned takes, struct remote_options *out)
{
	int n = 0;

	if (takes & NAME) {
		if (n == argc)
			return needed(out, takes & SOURCE  ? "the VM's NAME, or a snapshot's DIR,"
					   : takes & POINT ? "the TEMPLATE's name"
							   : "the VM's NAME");
		out->name = argv[n++];
		if (takes & SOURCE && strchr(out->name, '/')) {
			out->dir = out->name;
			out->name = "";
		}
	}
	if (takes & SIZE) {
		if (n == argc)
			return needed(out, "a SIZE");
		out->size_word = argv[n++];
	}
	if (takes & DIR) {
		if (n == argc)
			return needed(out, "a DIR");
		out->dir = argv[n++];
	}
	if (out->diff && n < argc)
		out->parent = argv[n++];
	if (out->json && out->prometheus)
		return usage_error("%s: --json and --prometheus: give one", out->command);
	if (out->clock && !out->here && takes & HERE)
		return usage_error("%s: --clock is of --here: it is kept with the point",
				   out->command);
	if (n < argc)
		return usage_error("%s: %s: not taken; see foal help %s", out->command, argv[n],
				   out->command);
	const char *fault =
	    takes & NAME && !(takes & SOURCE && out->dir) ? vm_name_fault(out->name) : NULL;
	if (fault)
		return usage_error("%s: %s: no VM's name: %s", out->command, out->name, fault);
	return takes & SIZE ? take_size(out) : 0;
}

int remote_parse(int argc, char **argv, struct remote_options *out)
{
	unsigned takes = rows[row_of(argv[0])].takes;
	struct option longs[NR_OPTIONS + 1] = {{0}};
	size_t n = 0;
	int i, index, r = 0;

	*out = (struct remote_options){.command = argv[0], .count = 1, .pool = 4};
	for (size_t j = 0; j < NR_OPTIONS; j++)
		if (!options[j].bit || takes & options[j].bit)
			longs[n++] =
			    (struct option){options[j].name, options[j].has_value, NULL, 'o'};
	opterr = 0;
	while (r == 0 &&
	       (i = getopt_long(argc, argv, takes & COPIES ? ":n:" : ":", longs, &index)) != -1) {
		if (i == 'n')
			r = take_count(optarg, out);
		else if (i == 'o')
			r = take_option(longs[index].name, optarg, out);
		else
			r = usage_error(i == ':' ? "%s: %s needs a value"
						 : "%s: %s: no such option; see foal help %s",
					out->command, argv[optind - 1], out->command);
	}
	return r ? r : take_words(argc - optind, argv + optind, takes, out);
}
