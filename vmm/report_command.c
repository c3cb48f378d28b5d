/* foal report: its command line, and a trace's file on its way into the page. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "vmm/remote_trace.h"
#include "vmm/report.h"

void report_help(void)
{
	puts(
	    "usage: foal report FILE -o PAGE [--symbols ELF]\n\n"
	    "One HTML page of the binary FILE that foal trace NAME -o FILE wrote: which guest "
	    "memory\n"
	    "came when, how long faults of each case took, how much of each file was read. It "
	    "needs\n"
	    "no network, and nothing beside it.\n\n"
	    "  -o, --out PAGE    write it there; - is standard output. PAGE is there when all "
	    "of it\n"
	    "                    is; one that was there before is replaced then\n"
	    "  --symbols ELF     name the RIPs that KVM told by the symbols of the guest's kernel");
}

/* Why the trace ended early: its path may be any bytes, and this is to be told as text. */
static void say_cut(struct report *report, const struct foal_error *err)
{
	snprintf(report->cut, sizeof(report->cut), "%s", err->text);
	for (char *at = report->cut; *at; at++)
		if (*at < ' ' || *at > '~')
			*at = '?';
}

/* What is whole of a damaged trace is shown, and the page says so. */
static int write_page(const struct trace_options *opt, const struct report_page *page,
		      struct trace_reader *reader, struct foal_error *err)
{
	struct trace_job job;
	int caught, r = trace_job_begin(&job, opt, &reader->meta, err);

	if (r)
		return r;
	struct report *report = job.state;
	report->page = page;
	r = trace_job_read(&job, reader, &caught, err);
	if (r)
		say_cut(report, err);
	int end = trace_job_end(&job, opt, reader->meta.vm, reader->lost, !caught, err);
	if (caught)
		return trace_job_interrupted(reader->path, caught, err);
	return r ? r : end;
}

/* 0 and a file in *@out, or FOAL_EXIT_USAGE: it was said. */
static int parse(int argc, char **argv, struct trace_options *out)
{
	static const struct option longs[] = {
	    {"out", required_argument, NULL, 'o'}, {"symbols", required_argument, NULL, 'S'}, {0}};
	int i;

	*out = (struct trace_options){.form = &trace_report};
	opterr = 0;
	while ((i = getopt_long(argc, argv, ":o:", longs, NULL)) != -1) {
		if (i == ':')
			return usage_error("report: %s needs a value", argv[optind - 1]);
		if (i == '?')
			return usage_error("report: %s: no such option; see foal help report",
					   argv[optind - 1]);
		if (i == 'S')
			out->symbols_path = optarg;
		else
			out->out = optarg;
	}
	if (optind == argc)
		return usage_error("report: the FILE that foal trace NAME -o FILE wrote is needed; "
				   "see foal help report");
	if (optind + 1 < argc)
		return usage_error("report: %s: not taken; see foal help report", argv[optind + 1]);
	if (!out->out || !*out->out)
		return usage_error("report: -o PAGE is needed: the name of the page, or - for "
				   "standard output");
	out->remote.name = argv[optind];
	return 0;
}

int command_report(int argc, char **argv, uint64_t main_ns)
{
	struct foal_error err = {0};
	struct trace_options opt;
	struct trace_reader reader;
	struct report_page page;
	int r = parse(argc, argv, &opt);

	(void)main_ns;
	if (r)
		return r;
	if (opt.symbols_path && symbols_open(opt.symbols_path, &opt.symbols, &err))
		return remote_finish(&err, 0);
	if (report_page_load(&page, &err) == 0) {
		if (trace_open_file(&reader, opt.remote.name, &err) == 0) {
			reader.meta.symbols = opt.symbols;
			write_page(&opt, &page, &reader, &err);
		}
		trace_close(&reader);
	}
	report_page_free(&page);
	symbols_free(opt.symbols);
	return remote_finish(&err, 0);
}
