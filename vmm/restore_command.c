/* foal restore, foal verify: a snapshot's directory becomes a VM again; or is only read. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ept/snapshot.h"
#include "vmm/manifest.h"
#include "vmm/run.h"
#include "vmm/snapshot.h"
#include "vmm/snapshot_dir.h"
#include "vmm/vm.h"

enum prefetch { PREFETCH_AUTO, PREFETCH_ALL, PREFETCH_OFF };

struct restore_options {
	bool eager, reset_point, paused, keep;
	struct end_patterns ends;
	enum prefetch prefetch;
	enum clock_policy clock;
};

/* How a VM is run, which no snapshot says: as foal run has them. */
static const struct {
	const char *name;
	bool has_value;
} taken[] = {
    {"name", true},	    {"detach", false},	    {"run-dir", true},	     {"fault-engine", true},
    {"fault-around", true}, {"on-io-error", true},  {"fault-timeout", true}, {"huge", true},
    {"halt", true},	    {"memory-limit", true}, {"swap", true},	     {"sandbox", true},
    {"user", true},	    {"time-limit", true},   {"stats", true},	     {"stats-file", true},
    {"trace", true},	    {"fault-log", true},    {"rip-sample", true},
};

#define NR_TAKEN (sizeof(taken) / sizeof(taken[0]))
/* Values of getopt_long(); those of `taken` begin here. */
#define FIRST	 256

void restore_help(void)
{
	puts(
	    "usage: foal restore DIR [option...]\n\n"
	    "Bring the VM back that foal snapshot froze into DIR: it goes on where it was. Its "
	    "memory\n"
	    "is read as it is touched, and checked before. The files that the machine was made of\n"
	    "have to be where they were, unchanged. DIR can be restored any number of times, at "
	    "once.\n\n"
	    "  --lazy|--eager            read what is touched (--lazy), or bring in and check all "
	    "of\n"
	    "                            DIR before the guest goes on\n"
	    "  --prefetch auto|all|off   bring in first what an earlier restore asked for, if one "
	    "was\n"
	    "                            recorded; if none was, record it (auto); or bring in all, "
	    "while\n"
	    "                            the guest runs\n"
	    "  --clock freeze|jump       what the guest's clocks say of the time since: it did "
	    "not\n"
	    "                            pass, or it did (freeze)\n"
	    "  --reset-point             its start is its reset point: foal reset\n"
	    "  --paused                  it stays paused, until foal resume\n"
	    "  --identity new|keep       its networks' addresses and its vsock's CID: others, or "
	    "as they\n"
	    "                            were (new)\n"
	    "  --net NET, --vsock VSOCK  for each --net of the VM, in order, and for its --vsock, "
	    "what it\n"
	    "                            is to have in its place; else the same interface or "
	    "socket\n\n"
	    "and how it is run, as for foal run:");
	for (size_t i = 0; i < NR_TAKEN; i++)
		printf("%s--%s", i % 6 ? " " : i ? "\n  " : "  ", taken[i].name);
	putchar('\n');
}

void verify_help(void)
{
	puts("usage: foal verify DIR\n\n"
	     "Read all of a snapshot and check every checksum in it. Ends with 0 if all is as it "
	     "was\n"
	     "written, or with 114 and a line that names file and place.");
}

/* --- the command line ---------------------------------------------------------------------- */

/* @words end with NULL. */
static int take_word(const char *name, const char *value, const char *const words[], int *out,
		     struct foal_error *err)
{
	char all[64] = "";
	size_t len = 0;

	for (*out = 0; words[*out]; ++*out) {
		const char *before = *out == 0 ? "" : words[*out + 1] ? ", " : " or ";
		if (strcmp(value, words[*out]) == 0)
			return 0;
		len += (size_t)snprintf(all + len, sizeof(all) - len, "%s%s", before, words[*out]);
	}
	return error_set(err, FOAL_EXIT_USAGE, -EINVAL, "restore: --%s %s: give %s", name, value,
			 all);
}

static int take_own(int option, const char *value, struct restore_options *out,
		    struct foal_error *err)
{
	static const char *const prefetches[] = {"auto", "all", "off", NULL};
	static const char *const clocks[] = {"freeze", "jump", NULL};
	static const char *const identities[] = {"new", "keep", NULL};
	int word = 0, r = 0;

	if (option == 'P')
		out->paused = true;
	else if (option == 'n' && out->ends.net_count == MAX_NETS)
		r = error_set(err, FOAL_EXIT_USAGE, -E2BIG,
			      "restore: --net %s: there are %d already", value, MAX_NETS);
	else if (option == 'n')
		out->ends.nets[out->ends.net_count++] = value;
	else if (option == 'v')
		out->ends.vsock = value;
	else if (option == 'i')
		r = take_word("identity", value, identities, &word, err), out->keep = word == 1;
	else if (option == 'l' || option == 'e')
		out->eager = option == 'e';
	else if (option == 'r')
		out->reset_point = true;
	else if (option == 'p')
		r = take_word("prefetch", value, prefetches, &word, err),
		out->prefetch = (enum prefetch)word;
	else
		r = take_word("clock", value, clocks, &word, err),
		out->clock = word ? CLOCK_JUMP : CLOCK_FREEZE;
	return r;
}

static int parse(int argc, char **argv, const char **dir, struct restore_options *own,
		 struct run_options *opt, struct foal_error *err)
{
	static const struct option mine[] = {{"lazy", no_argument, NULL, 'l'},
					     {"eager", no_argument, NULL, 'e'},
					     {"paused", no_argument, NULL, 'P'},
					     {"prefetch", required_argument, NULL, 'p'},
					     {"clock", required_argument, NULL, 'c'},
					     {"reset-point", no_argument, NULL, 'r'},
					     {"identity", required_argument, NULL, 'i'},
					     {"net", required_argument, NULL, 'n'},
					     {"vsock", required_argument, NULL, 'v'},
					     /* No short form of --memory-limit. */
					     {"memory", required_argument, NULL, 'm'}};
	struct option longs[NR_TAKEN + 12] = {{0}};
	int i, r = 0;

	for (size_t k = 0; k < NR_TAKEN; k++)
		longs[k] = (struct option){taken[k].name,
					   taken[k].has_value ? required_argument : no_argument,
					   NULL, FIRST + (int)k};
	memcpy(longs + NR_TAKEN, mine, sizeof(mine));
	opterr = 0;
	while (r == 0 && (i = getopt_long(argc, argv, ":d", longs, NULL)) != -1) {
		if (i == 'm')
			r = error_set(err, FOAL_EXIT_USAGE, -EINVAL,
				      "restore: --memory: the memory is the snapshot's; "
				      "--memory-limit bounds what of it is in the host's");
		else if (i == ':' || i == '?')
			r = error_set(
			    err, FOAL_EXIT_USAGE, -EINVAL, "restore: %s: %s", argv[optind - 1],
			    i == ':' ? "needs a value" : "no such option; see foal help restore");
		else if (i == 'd')
			r = options_set(opt, "detach", NULL, err);
		else if (i >= FIRST)
			r = options_set(opt, taken[i - FIRST].name, optarg, err);
		else
			r = take_own(i, optarg, own, err);
	}
	if (r == 0 && argc - optind != 1)
		r = error_set(err, FOAL_EXIT_USAGE, -EINVAL,
			      "restore: give one DIR; see foal help restore");
	*dir = argv[optind];
	return r;
}

/* --- what is brought in first ------------------------------------------------------------ */

/*
 * What an earlier restore asked for; or where to write down what this one does, if nobody
 * else is at it: who records holds the file's lock.
 */
static void working_set(struct snapshot_dir *dir, struct ept_working_set **set, int *record)
{
	int fd =
	    openat(dir->fd, SNAPSHOT_WORKING_SET, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	uint8_t id[16], parent[16];
	struct stat st;
	/* Whoever made DIR may have made this a link to something else. */
	bool writable = fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 1;

	if (fd < 0)
		fd = openat(dir->fd, SNAPSHOT_WORKING_SET, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return;
	ept_snapshot_ids(dir->memory, id, parent);
	if (ept_working_set_open(fd, id, set) == 0) {
		close(fd);
		return;
	}
	*set = NULL;
	if (writable && flock(fd, LOCK_EX | LOCK_NB) == 0 && ftruncate(fd, 0) == 0)
		*record = fd;
	else
		close(fd);
}

/* What is taken of foal run is refused in its name. */
static void in_our_name(struct foal_error *err)
{
	static const char theirs[] = "run: ", ours[] = "restore: ";
	size_t cut = sizeof(theirs) - 1, room = sizeof(ours) - 1;

	if (strncmp(err->text, theirs, cut) != 0)
		return;
	err->text[sizeof(err->text) - 1 - (room - cut)] = 0;
	memmove(err->text + room, err->text + cut, strlen(err->text + cut) + 1);
	memcpy(err->text, ours, room);
}

/* --- restore ----------------------------------------------------------------------------- */

/* What a run writes begins empty: that is never a part of what it begins with. */
static int spare_snapshot(const struct snapshot_dir *dir, const struct run_options *opt,
			  struct foal_error *err)
{
	const char *const outputs[] = {opt->trace, opt->stats_file};
	struct stat st;

	for (unsigned i = 0; i < sizeof(outputs) / sizeof(outputs[0]); i++)
		if (outputs[i] && stat(outputs[i], &st) == 0 && snapshot_dir_holds(dir, &st))
			return error_set(err, FOAL_EXIT_USAGE, -EINVAL,
					 "restore: %s: a file that a VM uses; name another",
					 outputs[i]);
	return 0;
}

/*
 * Without KVM nothing else counts. A process that will fork another has no VM that was begun: it
 * makes one to see.
 */
static int heed_kvm(struct vm *vm, struct foal_error *err)
{
	struct foal_error why = {0};

	if (vm ? vm_begun(vm, &why) : kvm_try(&why))
		*err = why;
	return err->status ? -ECANCELED : 0;
}

int command_restore(int argc, char **argv, uint64_t main_ns)
{
	struct restore_options own = {.prefetch = PREFETCH_AUTO};
	struct vm_restore from = {.record_fd = -1};
	struct foal_error err = {0};
	struct snapshot_dir dir;
	struct run_options opt;
	struct ept_working_set *ahead = NULL;
	struct vm *vm = NULL;
	char where[400];
	const char *path;

	options_defaults(&opt);
	snapshot_dir_init(&dir);
	int r = parse(argc, argv, &path, &own, &opt, &err);
	if (r == 0)
		vm = vm_begin_ahead(&opt);
	if (r == 0)
		r = snapshot_open(&dir, path, &opt, &err);
	if (r == 0)
		r = options_check_run(&opt, &err);
	if (r == 0)
		r = spare_snapshot(&dir, &opt, &err);
	if (r == 0) {
		snprintf(where, sizeof(where), "%s/" SNAPSHOT_MANIFEST, path);
		r = manifest_check_files(snapshot_dir_get(&dir, "files"), where, &opt, &err);
	}
	if (r == 0)
		r = ends_renew(&own.ends, own.keep, &opt, &err);
	if (r == 0 && own.eager)
		r = heed_kvm(vm, &err);
	if (r == 0 && own.eager)
		r = snapshot_dir_verify(&dir, !opt.limit.bytes, &err);
	if (r == 0 && own.prefetch == PREFETCH_ALL && opt.limit.bytes)
		r = error_set(&err, FOAL_EXIT_USAGE, -EINVAL,
			      "restore: --prefetch all: a memory limit has no room for all");
	if (r == 0 && opt.engine == EPT_ENGINE_KERNEL)
		r = error_set(&err, FOAL_EXIT_USAGE, -EINVAL,
			      "restore: --fault-engine kernel: nobody would check what is read");
	if (r) {
		if (vm)
			heed_kvm(vm, &err);
		in_our_name(&err);
		error_print(&err);
		vm_forget(vm, &opt);
		options_free(&opt);
		snapshot_dir_close(&dir);
		return err.status;
	}
	from.eager = own.eager;
	from.all = !opt.limit.bytes && (own.eager || own.prefetch == PREFETCH_ALL);
	if (own.prefetch == PREFETCH_AUTO && !from.all)
		working_set(&dir, &ahead, &from.record_fd);
	from.state = dir.state;
	from.len = dir.state_len;
	from.clock = own.clock;
	from.copy = true;
	from.reset_point = own.reset_point;
	from.paused = own.paused;
	from.layers = dir.layers;
	from.memory = dir.memory;
	from.below = dir.below;
	char *real = realpath(path, NULL);
	from.path = real;
	from.ahead = ahead;
	bool abandoned;
	int status = run_machine(&opt, &from, vm, main_ns, &abandoned);
	if (abandoned)
		return status; /* threads of a VM that hangs may still read the snapshot */
	if (ahead)
		ept_working_set_close(ahead);
	if (from.record_fd >= 0)
		close(from.record_fd);
	free(real);
	snapshot_dir_close(&dir);
	return status;
}

/* --- verify
 * ----------------------------------------------------------------------------------------
 */

int command_verify(int argc, char **argv, uint64_t main_ns)
{
	struct foal_error err = {0};
	struct snapshot_dir dir;
	struct run_options opt;

	(void)main_ns;
	if (argc == 2 && argv[1][0] == '-')
		return usage_error("verify: %s: no such option; see foal help verify", argv[1]);
	if (argc != 2)
		return usage_error("verify: give one DIR; see foal help verify");
	options_defaults(&opt);
	int r = snapshot_open(&dir, argv[1], &opt, &err);
	if (r == 0)
		r = snapshot_dir_verify(&dir, false, &err);
	if (r == 0)
		printf("%s: whole: every checksum is right\n", argv[1]);
	else
		error_print(&err);
	snapshot_dir_close(&dir);
	options_free(&opt);
	return r ? err.status : 0;
}
