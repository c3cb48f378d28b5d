#include "vmm/options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/option_values.h"
#include "vmm/options_devices.h"

/* (uid_t)-1 means "as it is" to the kernel. */
#define MAX_ID 0xfffffffeU

/* --- one function an option ------------------------------------------------------ */

static int parse_kernel(const char *name, const char *value, struct run_options *out,
			struct foal_error *err)
{
	return option_file(name, value, &out->kernel, err);
}

static int parse_initrd(const char *name, const char *value, struct run_options *out,
			struct foal_error *err)
{
	return option_file(name, value, &out->initrd, err);
}

static int parse_append(const char *name, const char *value, struct run_options *out,
			struct foal_error *err)
{
	(void)name, (void)err;
	out->append = value;
	return 0;
}

static int parse_boot(const char *name, const char *value, struct run_options *out,
		      struct foal_error *err)
{
	static const char *const protocols[] = {
	    [BOOT_AUTO] = "auto", [BOOT_LINUX64] = "linux64", [BOOT_PVH] = "pvh", NULL};
	int word = 0, r = option_word(name, value, protocols, &word, err);

	out->boot = (enum boot_protocol)word;
	return r;
}

static int parse_firmware(const char *name, const char *value, struct run_options *out,
			  struct foal_error *err)
{
	return option_file(name, value, &out->firmware, err);
}

static int parse_memory(const char *name, const char *value, struct run_options *out,
			struct foal_error *err)
{
	return option_size(name, value, &out->memory, err);
}

static int parse_cpus(const char *name, const char *value, struct run_options *out,
		      struct foal_error *err)
{
	return option_count(name, value, 1, EPT_MAX_VCPUS, &out->cpus, err);
}

static int parse_cpu(const char *name, const char *value, struct run_options *out,
		     struct foal_error *err)
{
	out->cpu = value;
	return cpu_mask_parse(name, value, &out->cpu_mask, err);
}

static int parse_name(const char *name, const char *value, struct run_options *out,
		      struct foal_error *err)
{
	const char *fault = vm_name_fault(value);

	if (fault)
		return option_bad(err, name, value, fault);
	memcpy(out->name, value, strlen(value) + 1);
	out->named = true;
	return 0;
}

static int parse_background(const char *name, const char *value, struct run_options *out,
			    struct foal_error *err)
{
	(void)name, (void)value, (void)err;
	out->background = out->named = true;
	return 0;
}

static int parse_run_dir(const char *name, const char *value, struct run_options *out,
			 struct foal_error *err)
{
	return option_file(name, value, &out->run_dir, err);
}

static int parse_engine(const char *name, const char *value, struct run_options *out,
			struct foal_error *err)
{
	static const char *const engines[] = {[EPT_ENGINE_HANDLER] = "handler",
					      [EPT_ENGINE_KERNEL] = "kernel",
					      [EPT_ENGINE_AUTO] = "auto",
					      NULL};
	int word = 0, r = option_word(name, value, engines, &word, err);

	out->engine = (enum ept_engine)word;
	return r;
}

static int parse_fault_around(const char *name, const char *value, struct run_options *out,
			      struct foal_error *err)
{
	unsigned *pages = &out->fault_around;
	int r = option_count(name, value, 1, 512, pages, err);

	if (r == 0 && (*pages & (*pages - 1)))
		r = option_bad(err, name, value, "give a power of two");
	return r;
}

static int parse_on_io_error(const char *name, const char *value, struct run_options *out,
			     struct foal_error *err)
{
	static const char *const policies[] = {
	    [EPT_IO_STOP] = "stop", [EPT_IO_POISON] = "poison", NULL};
	int word = 0, r = option_word(name, value, policies, &word, err);

	out->on_io_error = (enum ept_io_policy)word;
	return r;
}

static int parse_fault_timeout(const char *name, const char *value, struct run_options *out,
			       struct foal_error *err)
{
	return option_count(name, value, 0, 1000000, &out->fault_timeout, err);
}

static int parse_huge(const char *name, const char *value, struct run_options *out,
		      struct foal_error *err)
{
	static const char *const choices[] = {[EPT_HUGE_AUTO] = "auto",
					      [EPT_HUGE_ALWAYS] = "always",
					      [EPT_HUGE_NEVER] = "never",
					      NULL};
	int word = 0, r = option_word(name, value, choices, &word, err);

	out->huge = (enum ept_huge)word;
	return r;
}

static int parse_halt(const char *name, const char *value, struct run_options *out,
		      struct foal_error *err)
{
	static const char *const halts[] = {
	    [HALT_AUTO] = "auto", [HALT_GUEST] = "guest", [HALT_EXIT] = "exit", NULL};
	int word = 0, r = option_word(name, value, halts, &word, err);

	out->halt = (enum halt_choice)word;
	return r;
}

static int parse_time_limit(const char *name, const char *value, struct run_options *out,
			    struct foal_error *err)
{
	return option_count(name, value, 1, 1000000, &out->time_limit, err);
}

static int parse_stats(const char *name, const char *value, struct run_options *out,
		       struct foal_error *err)
{
	static const char *const formats[] = {
	    [STATS_TABLE] = "table", [STATS_JSON] = "json", [STATS_OFF] = "off", NULL};
	int word = 0, r = option_word(name, value, formats, &word, err);

	out->stats = (enum stats_format)word;
	return r;
}

static int parse_fault_log(const char *name, const char *value, struct run_options *out,
			   struct foal_error *err)
{
	return option_switch(name, value, &out->fault_log, err);
}

static int parse_rip_sample(const char *name, const char *value, struct run_options *out,
			    struct foal_error *err)
{
	return option_count(name, value, 0, 1000000, &out->rip_sample, err);
}

static int parse_sandbox(const char *name, const char *value, struct run_options *out,
			 struct foal_error *err)
{
	return option_switch(name, value, &out->sandbox, err);
}

/* UID[:GID], numbers: names would need libc's plug-ins, which a static program has not. */
static int parse_user(const char *name, const char *value, struct run_options *out,
		      struct foal_error *err)
{
	char uid[16];
	const char *colon = strchr(value, ':');
	size_t length = colon ? (size_t)(colon - value) : strlen(value);
	int r;

	if (length >= sizeof(uid))
		return option_bad(err, name, value, "give UID or UID:GID, in numbers");
	memcpy(uid, value, length);
	uid[length] = 0;
	r = option_count(name, uid, 1, MAX_ID, &out->uid, err);
	out->gid = out->uid;
	if (r == 0 && colon)
		r = option_count(name, colon + 1, 1, MAX_ID, &out->gid, err);
	out->change_ids = true;
	return r;
}

static int parse_stats_file(const char *name, const char *value, struct run_options *out,
			    struct foal_error *err)
{
	return option_file(name, value, &out->stats_file, err);
}

static int parse_trace(const char *name, const char *value, struct run_options *out,
		       struct foal_error *err)
{
	return option_file(name, value, &out->trace, err);
}

/* --- the table --------------------------------------------------------------------- */

/* Also -d. */
#define BACKGROUND "detach"
/* No character's value. */
#define FIRST_ROW  256

/* Every option there is, in the order of the help; further lines of @help are indented. */
static const struct {
	const char *name, *value, *help;
	int (*parse)(const char *name, const char *value, struct run_options *out,
		     struct foal_error *err);
} rows[] = {
    {"kernel", "FILE", "a bzImage (vmlinuz) or 64-bit ELF kernel (vmlinux)", parse_kernel},
    {"initrd", "FILE", "initial RAM disk, handed to the kernel as it is", parse_initrd},
    {"append", "STRING", "kernel command line", parse_append},
    {"boot", "auto|linux64|pvh",
     "\nhow the kernel is entered (auto: an ELF kernel through its PVH entry\n"
     "point if it has one, others by Linux's 64-bit boot protocol)",
     parse_boot},
    {"firmware", "FILE|qboot|seabios",
     "\nstart the machine with this ROM, which boots the kernel, or without one\n"
     "a disk; the words stand for those of Debian's qemu-system-data and seabios",
     parse_firmware},
    {"memory", "SIZE", "guest memory, e.g. 256M or 4G (256M)", parse_memory},
    {"memory-limit", "SIZE",
     "\nhow much of guest memory may be in the host's, 16M or more: what is not in\n"
     "use is dropped or swapped (none)",
     option_memory_limit},
    {"swap", "FILE[,size=SIZE]",
     "where pages go under a memory limit, compressed; a new or an empty file\n"
     "(size: four times --memory)",
     option_swap},
    {"cpus", "N", "vCPUs (1)", parse_cpus},
    {"cpu", "host|baseline",
     "what a vCPU can: all that KVM supports here, or what\n"
     "most hosts share; -NAME and +NAME after it, separated by\n"
     "commas, take features away or back (host; foal help cpu)",
     parse_cpu},
    {"disk", "FILE[,mode=M][,format=F]",
     "\na virtio-blk disk; may be repeated; FILE may be an NBD server,\n"
     "nbd://HOST/EXPORT or nbd:unix:SOCKET; F is raw or qcow2 (raw);\n"
     "M is as for --pmem",
     option_disk},
    {"pmem", "FILE[,mode=M]",
     "a file in guest-physical memory; may be repeated; M is\n"
     "ro      the guest cannot write\n"
     "cow     the guest writes to copies; the file is never written (default)\n"
     "shared  the guest's flushed writes are in the file",
     option_pmem},
    {"net", "tap=NAME|user[,mac=M][,forward=HOST:GUEST]",
     "\na virtio-net device; may be repeated\n"
     "tap=NAME  a tap interface of the host; as root, if there is none of that\n"
     "          name, one is made for the run\n"
     "user      through passt, without privileges; forward hands a TCP port of the\n"
     "          host's loopback to the guest",
     option_net},
    {"transport", "mmio|pci",
     "how the guest reaches its virtio devices (mmio); pci is for\n"
     "kernels without virtio-mmio",
     option_transport},
    {"vsock", "cid=N,path=SOCKET",
     "\na virtio-vsock device, the guest's address being N: \"CONNECT PORT\" on\n"
     "SOCKET leads to that port of the guest, the guest's way out to SOCKET_PORT",
     option_vsock},
    {"balloon", "on|off|target=SIZE",
     "\nvirtio-balloon: memory that the guest does not use goes back to the\n"
     "host; with a target, the guest is asked to keep no more than that (off)",
     option_balloon},
    {"console", "serial|virtio",
     "where what is typed goes: ttyS0, or hvc0, which is then there (serial)", option_console},
    {"rng", "on|off", "a virtio-rng device, the host's random bytes (off)", option_rng},
    {"reset-port", "on|off",
     "a port by which the guest sets its reset point and goes\n"
     "back to it, for loops that need no foal reset (off)",
     option_reset_port},
    {"name", "NAME",
     "the VM's name, in messages (vm-PID), and for foal ps, console,\n"
     "pause, resume, stop, stat and balloon while it runs",
     parse_name},
    {BACKGROUND, "", "or -d: in the background; returns when the guest runs", parse_background},
    {"run-dir", "DIR",
     "\nwhere running VMs are found by name ($FOAL_RUN_DIR, $XDG_RUNTIME_DIR/foal,\n"
     "/run/foal for root)",
     parse_run_dir},
    {"fault-engine", "handler|kernel|auto",
     "\nwho resolves nested faults: foal's handlers or the host kernel (auto:\n"
     "the host kernel for RAM, kernel and initrd; handlers for other files where\n"
     "userfaultfd may be used)",
     parse_engine},
    {"fault-around", "PAGES",
     "pages mapped by a read fault of a file, a power of two up to 512; who\n"
     "reads in order gets more, and reading ahead; 1: neither (16)",
     parse_fault_around},
    {"on-io-error", "stop|poison",
     "what a page does that its file does not give: stop the VM, or\n"
     "poison: a memory error (machine check) to who touches it (stop)",
     parse_on_io_error},
    {"fault-timeout", "SECONDS",
     "stop the VM when a page has not come by then, or a vCPU has\n"
     "not left the host's kernel; 0: never (30)",
     parse_fault_timeout},
    {"huge", "auto|always|never",
     "\n2 MiB pages for guest memory: where it turns out to be touched densely,\n"
     "wherever the host has one (pmem files then share no page cache), or\n"
     "nowhere (auto)",
     parse_huge},
    {"halt", "auto|guest|exit",
     "\nwhether an idle vCPU gives its CPU back (exit) or keeps it and faults\n"
     "stay exact (guest); auto: guest with --fault-engine handler (auto)",
     parse_halt},
    {"sandbox", "on|off",
     "give up, before the guest runs, every right and system call\n"
     "that a run does not need; off is for debugging (on)",
     parse_sandbox},
    {"user", "UID[:GID]", "started as root, run as this user and group", parse_user},
    {"time-limit", "SECONDS", "stop a guest that has not ended by then", parse_time_limit},
    {"stats", "table|json|off",
     "what to print after the run (table, on stderr); with json\n"
     "the console moves to stderr and stdout is the JSON alone",
     parse_stats},
    {"stats-file", "FILE", "write it there instead", parse_stats_file},
    {"trace", "FILE", "write a line of JSON there for each fault", parse_trace},
    {"fault-log", "on|off",
     "keep a record of each fault that foal's handlers resolved, the\n"
     "last 131,072 of them, for who asks while it runs (on)",
     parse_fault_log},
    {"rip-sample", "N",
     "say of one in N faults of a vCPU, in the fault log, which\n"
     "instruction of the guest made the access (1000; 0: of none)",
     parse_rip_sample},
};

#define NR_ROWS	    (sizeof(rows) / sizeof(rows[0]))
#define HELP_COLUMN 28

void options_usage(void)
{
	puts("usage: foal run --kernel FILE [option...]\n");
	for (size_t i = 0; i < NR_ROWS; i++) {
		int at =
		    printf("  --%s%s%s", rows[i].name, rows[i].value[0] ? " " : "", rows[i].value);
		for (const char *line = rows[i].help; line;) {
			const char *end = strchr(line, '\n');
			int length = end ? (int)(end - line) : (int)strlen(line);
			if (length)
				printf("%*s%.*s", at < HELP_COLUMN ? HELP_COLUMN - at : 1, "",
				       length, line);
			putchar('\n');
			at = 0;
			line = end ? end + 1 : NULL;
		}
	}
	puts("\nOn a terminal, Ctrl-A x ends the run, Ctrl-A p presses the guest's power button\n"
	     "and Ctrl-A Ctrl-A types a Ctrl-A.\n"
	     "The guest's own status, 0..99, is foal's; from 100 up it is foal speaking\n"
	     "(docs/exit-statuses.md).");
}

/* What getopt_long() wants of the table; a row's index is its value, from FIRST_ROW up. */
static void long_options(struct option *out)
{
	for (size_t i = 0; i < NR_ROWS; i++)
		out[i] = (struct option){
		    rows[i].name, rows[i].value[0] ? required_argument : no_argument, NULL,
		    strcmp(rows[i].name, BACKGROUND) ? FIRST_ROW + (int)i : 'd'};
	out[NR_ROWS] = (struct option){0};
}

void options_defaults(struct run_options *out)
{
	*out = (struct run_options){.memory = 256UL << 20,
				    .cpus = 1,
				    .cpu = "host",
				    .append = "",
				    .engine = EPT_ENGINE_AUTO,
				    .fault_timeout = 30,
				    .fault_log = true,
				    .rip_sample = RIP_SAMPLE_UNSAID,
				    .sandbox = FOAL_SANDBOX_DEFAULT};
	cpu_mask_default(&out->cpu_mask);
	snprintf(out->name, sizeof(out->name), "vm-%d", (int)getpid());
}

int options_set(struct run_options *out, const char *name, const char *value,
		struct foal_error *err)
{
	for (size_t i = 0; i < NR_ROWS; i++)
		if (strcmp(rows[i].name, name) == 0)
			return rows[i].parse(rows[i].name, value, out, err);
	return error_set(err, FOAL_EXIT_USAGE, -EINVAL, "run: --%s: no such option; see foal help",
			 name);
}

int options_parse(int argc, char **argv, struct run_options *out, struct foal_error *err)
{
	struct option longs[NR_ROWS + 1];
	int i, r = 0;

	options_defaults(out);
	long_options(longs);
	opterr = 0;
	while (r == 0 && (i = getopt_long(argc, argv, ":d", longs, NULL)) != -1) {
		if (i == ':')
			r = error_set(err, FOAL_EXIT_USAGE, -EINVAL, "run: %s needs a value",
				      argv[optind - 1]);
		else if (i == '?')
			r = error_set(err, FOAL_EXIT_USAGE, -EINVAL,
				      "run: %s: no such option; see foal help", argv[optind - 1]);
		else if (i == 'd')
			r = parse_background(BACKGROUND, NULL, out, err);
		else
			r = rows[i - FIRST_ROW].parse(rows[i - FIRST_ROW].name, optarg, out, err);
	}
	if (r == 0 && optind < argc)
		r = error_set(err, FOAL_EXIT_USAGE, -EINVAL,
			      "run: %s: not an option (a file follows one, as in --kernel FILE); "
			      "see foal help",
			      argv[optind]);
	if (r == 0)
		r = options_check_machine(out, err);
	if (r == 0)
		r = options_check_run(out, err);
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
	free(opt->vsock.path);
	opt->vsock.path = NULL;
	free(opt->limit.swap);
	opt->limit.swap = NULL;
}
