/* foal trace: its command line, files that are turned into others, and where records go. */
#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/option_values.h"
#include "vmm/remote_trace.h"
#include "vmm/run.h"

#define FOR_MAX	   (30U * 24 * 3600) /* seconds */
#define LOOK_EVERY 4096U	     /* records between two looks for a signal */
#define SHOW_EVERY (1U << 19)	     /* the same, between two words of how far it is */

void trace_help(void)
{
	puts("usage: foal trace NAME [-o FILE] [--format chrome|csv|binary] [--now]\n"
	     "                  [--for SECONDS] [--json] [--kvm] [--rips] [--symbols ELF]\n"
	     "       foal trace FILE [-o OUT] [--format chrome|csv|binary] [--json] [--kvm]\n"
	     "                  [--rips] [--symbols ELF]\n\n"
	     "A record of each fault that foal's handlers resolved for a running VM: those that "
	     "its\n"
	     "log still holds, and what comes until Ctrl-C, or until the VM ends, which it does "
	     "not\n"
	     "wait for. Or of the binary FILE that it wrote before. Without -o: what they add up "
	     "to.\n\n"
	     "  -o, --out FILE    write them there; - is standard output. FILE is there when all "
	     "of\n"
	     "                    it is; one that was there before is replaced then\n"
	     "  --format FORMAT   chrome: trace events, for ui.perfetto.dev or chrome://tracing\n"
	     "                    (FILE.json); csv (FILE.csv); binary: for foal trace, compact\n"
	     "  --now             only what comes from here on\n"
	     "  --for SECONDS     no longer than that; 0: what the log holds\n"
	     "  --json            what they add up to, as JSON\n"
	     "  --kvm             what KVM tells, too: faults that the host kernel resolves, time\n"
	     "                    from exit to entry, RIPs. Needs CAP_PERFMON and tracefs. With\n"
	     "                    -o FILE.csv these faults alone\n"
	     "  --rips            with -o FILE.csv: the samples of foal run --rip-sample alone\n"
	     "  --symbols ELF     name the RIPs by the symbols of the guest's kernel (vmlinux)\n\n"
	     "  --run-dir DIR     where foal run was told to have it found");
}

/* --- where they go ------------------------------------------------------------------------ */

static int open_signals(void)
{
	sigset_t set = ending_signals();

	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

int trace_job_begin(struct trace_job *job, const struct trace_options *opt,
		    const struct trace_meta *meta, struct foal_error *err)
{
	sigset_t set = ending_signals();
	int r;

	*job = (struct trace_job){.form = opt->form, .signals = open_signals()};
	if (job->signals < 0)
		return error_set(err, FOAL_EXIT_HOST, -errno, "signalfd: %s", strerror(errno));
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	/* Not before: opening a pipe may wait for who reads it. */
	r = trace_out_open(opt->out ? opt->out : "-", job->signals, &job->out, err);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	if (r == 0) {
		job->state = job->form->begin(job->out, meta);
		if (!job->state) {
			trace_out_close(job->out, false, err);
			r = error_set(err, FOAL_EXIT_HOST, -ENOMEM, "out of memory");
		}
	}
	if (r)
		close(job->signals);
	return r;
}

void trace_job_record(struct trace_job *job, const struct ept_record *record)
{
	if (!job->form->record)
		return;
	job->form->record(job->state, record);
	job->records++;
}

void trace_job_sample(struct trace_job *job, const struct ept_sample *sample)
{
	if (!job->form->sample)
		return;
	job->form->sample(job->state, sample);
	job->samples++;
}

void trace_job_kvm_fault(struct trace_job *job, const struct kvm_fault *fault)
{
	if (!job->form->kvm_fault)
		return;
	job->form->kvm_fault(job->state, fault);
	job->kvm_faults++;
}

void trace_job_kvm_end(struct trace_job *job, const struct trace_kvm_told *told)
{
	if (job->form->kvm_end)
		job->form->kvm_end(job->state, told);
}

int trace_job_signal(const struct trace_job *job)
{
	struct signalfd_siginfo info;

	return read(job->signals, &info, sizeof(info)) == sizeof(info) ? (int)info.ssi_signo : 0;
}

int trace_job_end(struct trace_job *job, const struct trace_options *opt, const char *vm,
		  struct trace_lost lost, bool keep, struct foal_error *err)
{
	struct foal_error why = {0};

	job->form->end(job->state, lost);
	int r = trace_out_close(job->out, keep, &why);
	close(job->signals);
	if (r)
		return error_set(err, (enum foal_exit)why.status, r, "%s", why.text);
	if (keep && opt->out && strcmp(opt->out, "-") != 0) {
		printf("%s: %llu records", vm, (unsigned long long)job->records);
		if (opt->kvm || job->kvm_faults)
			printf(" and %llu faults that KVM told of",
			       (unsigned long long)job->kvm_faults);
		if (job->samples)
			printf(" and %llu samples of RIPs", (unsigned long long)job->samples);
		printf(" in %s, %llu lost", opt->out, (unsigned long long)lost.records);
		if (lost.samples)
			printf(", %llu samples lost", (unsigned long long)lost.samples);
		putchar('\n');
	}
	if (keep && opt->out && strcmp(opt->out, "-") == 0 && lost.records)
		notice("%s: %llu records were overwritten before they were read", vm,
		       (unsigned long long)lost.records);
	return 0;
}

/* --- a file ---------------------------------------------------------------------------------- */

/* On a terminal: how far it is. */
static void show_progress(const struct trace_reader *reader, bool done)
{
	struct stat st;
	off_t at = lseek(reader->fd, 0, SEEK_CUR);

	if (!isatty(STDERR_FILENO) || fstat(reader->fd, &st) || st.st_size == 0)
		return;
	if (done)
		fputs("\r\033[K", stderr);
	else
		fprintf(stderr, "\r%d %% of the trace read ...", (int)(100 * at / st.st_size));
}

int trace_job_read(struct trace_job *job, struct trace_reader *reader, int *caught,
		   struct foal_error *err)
{
	struct trace_item item;
	uint64_t items = 0;
	int r = 0;

	*caught = 0;
	while (!*caught && !trace_out_error(job->out) &&
	       (r = trace_next_item(reader, &item, err)) == 1) {
		if (item.kind == TRACE_KVM_FAULT)
			trace_job_kvm_fault(job, &item.fault);
		else if (item.kind == TRACE_SAMPLE)
			trace_job_sample(job, &item.sample);
		else
			trace_job_record(job, &item.record);
		if (++items % LOOK_EVERY == 0)
			*caught = trace_job_signal(job);
		if (items % SHOW_EVERY == 0)
			show_progress(reader, false);
	}
	if (items >= SHOW_EVERY)
		show_progress(reader, true);
	if (reader->has_told)
		trace_job_kvm_end(job, &reader->told);
	return r < 0 ? r : 0;
}

int trace_job_interrupted(const char *path, int caught, struct foal_error *err)
{
	return error_set(err, (enum foal_exit)(FOAL_EXIT_SIGNAL + caught), -EINTR,
			 "%s: ended by a signal; nothing was written", path);
}

/* What is whole of a damaged one is given, too. */
static int convert(const struct trace_options *opt, struct trace_reader *reader,
		   struct foal_error *err)
{
	struct trace_job job;
	int caught, r = trace_job_begin(&job, opt, &reader->meta, err);

	if (r)
		return r;
	r = trace_job_read(&job, reader, &caught, err);
	if (opt->kvm && !reader->has_told && !r && !caught)
		notice("%s: nothing in it that KVM told; it was recorded without --kvm",
		       reader->path);
	int end = trace_job_end(&job, opt, reader->meta.vm, reader->lost, !caught, err);
	if (caught)
		return trace_job_interrupted(reader->path, caught, err);
	return r ? r : end;
}

static int trace_file(const struct trace_options *opt)
{
	struct trace_reader reader;
	struct foal_error err = {0};

	if (opt->now || opt->has_for)
		return usage_error("trace: %s: --now and --for are of a running VM",
				   opt->remote.name);
	if (trace_open_file(&reader, opt->remote.name, &err) == 0) {
		reader.meta.symbols = opt->symbols;
		convert(opt, &reader, &err);
	}
	trace_close(&reader);
	return remote_finish(&err, 0);
}

/* --- the command line ---------------------------------------------------------------------- */

static int take_format(const char *value, struct trace_options *out)
{
	out->form = trace_form_named(value);
	return out->form ? 0 : usage_error("trace: --format %s: give chrome, csv or binary", value);
}

static int take_for(const char *value, struct trace_options *out)
{
	struct foal_error err = {0};

	out->has_for = true;
	if (option_count("for", value, 0, FOR_MAX, &out->seconds, &err))
		return usage_error("trace: --for %s: give whole seconds, 0 to %u", value, FOR_MAX);
	return 0;
}

static int take_option(int option, const char *value, struct trace_options *out)
{
	int r = 0;

	if (option == 'f')
		r = take_format(value, out);
	else if (option == 's')
		r = take_for(value, out);
	else if (option == 'o')
		out->out = value;
	else if (option == 'n')
		out->now = true;
	else if (option == 'k')
		out->kvm = true;
	else if (option == 'r')
		out->rips = true;
	else if (option == 'S')
		out->symbols_path = value;
	else if (option == 'j')
		out->remote.json = true;
	else
		out->remote.run_dir = value;
	return r;
}

/* What is to be done, from all that was given. */
static int settle(int argc, char **argv, struct trace_options *out)
{
	if (argc == 0)
		return usage_error("trace: the VM's NAME or a FILE is needed; see foal help trace");
	if (argc > 1)
		return usage_error("trace: %s: not taken; see foal help trace", argv[1]);
	if (!out->out && out->form)
		return usage_error("trace: --format is of -o FILE");
	if (out->out && out->remote.json)
		return usage_error("trace: --json is of the sums, without -o; with -o it is "
				   "--format chrome");
	if (out->out && out->symbols_path)
		return usage_error("trace: --symbols is of the sums, without -o");
	if (out->out && !*out->out)
		return usage_error("trace: -o needs the name of a file");
	out->remote.name = argv[0];
	if (!out->out)
		out->form = out->remote.json ? &trace_summary_json : &trace_summary;
	else if (!out->form)
		out->form = trace_form_of(out->out);
	if (out->rips && (out->kvm || out->form != &trace_csv))
		return usage_error("trace: --rips is of -o FILE.csv, and without --kvm; the other "
				   "forms have the samples as it is");
	if (out->rips)
		out->form = &trace_rips_csv;
	if (out->kvm && out->form == &trace_csv)
		out->form = &trace_kvm_csv;
	return 0;
}

static int parse(int argc, char **argv, struct trace_options *out)
{
	static const struct option longs[] = {
	    {"out", required_argument, NULL, 'o'},     {"format", required_argument, NULL, 'f'},
	    {"for", required_argument, NULL, 's'},     {"now", no_argument, NULL, 'n'},
	    {"json", no_argument, NULL, 'j'},	       {"kvm", no_argument, NULL, 'k'},
	    {"rips", no_argument, NULL, 'r'},	       {"run-dir", required_argument, NULL, 'd'},
	    {"symbols", required_argument, NULL, 'S'}, {0}};
	int i, r = 0;

	*out = (struct trace_options){.remote = {.command = "trace", .name = ""}};
	opterr = 0;
	while (r == 0 && (i = getopt_long(argc, argv, ":o:", longs, NULL)) != -1) {
		if (i == ':')
			r = usage_error("trace: %s needs a value", argv[optind - 1]);
		else if (i == '?')
			r = usage_error("trace: %s: no such option; see foal help trace",
					argv[optind - 1]);
		else
			r = take_option(i, optarg, out);
	}
	return r ? r : settle(argc - optind, argv + optind, out);
}

/* Of a name that both have it is the VM's. */
static bool is_running(const struct trace_options *opt)
{
	struct foal_error err = {0};
	struct run_dir dir;

	if (run_dir_open(&dir, opt->remote.run_dir, false, &err))
		return false;
	int fd = name_connect(&dir, opt->remote.name);
	run_dir_close(&dir);
	if (fd >= 0)
		close(fd);
	return fd >= 0 || fd == -EAGAIN;
}

/* Of a file or of a VM. */
static int trace_named(const struct trace_options *opt)
{
	const char *name = opt->remote.name, *fault = vm_name_fault(name);
	struct stat st;
	bool there = stat(name, &st) == 0;

	if (strchr(name, '/') || (there && (fault || !is_running(opt))))
		return trace_file(opt);
	if (fault)
		return usage_error("trace: %s: no file, and no VM's name: %s", name, fault);
	return remote_run(&opt->remote, remote_trace);
}

int command_trace(int argc, char **argv, uint64_t main_ns)
{
	struct foal_error err = {0};
	struct trace_options opt;
	int r = parse(argc, argv, &opt);

	(void)main_ns;
	if (r || !opt.form)
		return r;
	if (opt.symbols_path && symbols_open(opt.symbols_path, &opt.symbols, &err))
		return remote_finish(&err, 0);
	r = trace_named(&opt);
	symbols_free(opt.symbols);
	return r;
}
