/* foal top: its command line, and looks at a VM until somebody has seen enough. */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "vmm/option_values.h"
#include "vmm/run.h"
#include "vmm/top.h"
#include "vmm/vm.h"

#define EVERY_MIN   0.1 /* seconds */
#define EVERY_MAX   3600.0
#define COUNT_MAX   1000000000U
#define CELLS	    2048       /* asked for: what a tall terminal shows */
#define RECORDS_MAX (1U << 18) /* at a look: more than a log holds */

/* One run of the command. */
struct watch {
	const struct top_options *opt;
	struct client *client;
	struct ept_records *records; /* NULL: it keeps no log */
	int signals;		     /* those that end a process, readable here */
	bool stop;
	bool of_all; /* one of those that foal top shows */
	bool back;   /* to these */
	struct top top;
	struct top_page page;
};

void top_help(void)
{
	puts("usage: foal top [NAME] [-d SECONDS] [-s SORT] [-n COUNT] [-b]\n\n"
	     "What a running VM does, again and again: faults by case, with rates and times; where "
	     "they\n"
	     "came from; memory; KVM's counters; a map of which parts of guest memory are there.\n"
	     "Without NAME a line for each VM.\n\n"
	     "  -d, --delay SECONDS   between two looks, 0.1 to 3600 (2)\n"
	     "  -s, --sort SORT       of cases: faults, rate, pages, p99 or case (faults)\n"
	     "  -n, --count COUNT     end after so many looks\n"
	     "  -b, --batch           print lines, without a terminal\n\n"
	     "Keys: q quits; s and the arrows change the sort; d asks for the delay. Of all VMs: "
	     "the\n"
	     "arrows choose one, Enter shows it, Escape goes back.\n\n"
	     "  --run-dir DIR         where foal run was told to have it found");
}

/* --- a look ---------------------------------------------------------------------------------- */

static void read_log(struct watch *w)
{
	struct top *top = &w->top;
	struct ept_record record;

	memset(top->recent, 0, sizeof(top->recent));
	for (unsigned i = 0; w->records && i < RECORDS_MAX; i++) {
		if (ept_records_next(w->records, &record) != 1)
			break;
		if (trace_record_is_valid(&top->meta, &record))
			ept_hist_add(&top->recent[record.kase], record.done_ns);
	}
}

static int look(struct watch *w, struct foal_error *err)
{
	struct top *top = &w->top;
	json_t *stat = client_ask(w->client, "stat", NULL, -1, err);
	json_t *map =
	    stat ? client_ask(w->client, "residency", json_pack("{s:i}", "cells", CELLS), -1, err)
		 : NULL;
	const char *wrong = NULL;

	if (map) {
		top->again = top->any;
		top->any = true;
		top->before = top->now;
		wrong = top_sample_take(&top->now, stat, map);
		top->now.at = now_ns();
		read_log(w);
	}
	json_decref(stat);
	json_decref(map);
	if (wrong)
		return error_set(err, FOAL_EXIT_CONTROL, -EPROTO,
				 "%s: of what it says %s cannot be understood", top->vm, wrong);
	return map ? 0 : -EREMOTEIO;
}

/* --- showing it ------------------------------------------------------------------------------ */

int top_print(const struct top_page *page, struct foal_error *err)
{
	for (unsigned i = 0; i < page->used; i++)
		puts(page->text[i]);
	putchar('\n');
	if (fflush(stdout))
		return error_set(err, FOAL_EXIT_HOST, -errno, "top: standard output: %s",
				 strerror(errno));
	return 0;
}

static void draw(struct watch *w)
{
	top_screen_measure(&w->page);
	top_lay_out(&w->top, &w->page);
	top_screen_draw(&w->page);
}

static int show(struct watch *w, struct foal_error *err)
{
	if (!w->opt->batch) {
		draw(w);
		return 0;
	}
	w->page.rows = TOP_BATCH_ROWS;
	w->page.columns = TOP_COLUMNS_MAX;
	top_lay_out(&w->top, &w->page);
	return top_print(&w->page, err);
}

/* --- between two looks ----------------------------------------------------------------------- */

bool top_take_every(const char *value, double *every)
{
	char *end;
	double seconds = strtod(value, &end);

	if (*end || end == value || !(seconds >= EVERY_MIN && seconds <= EVERY_MAX))
		return false;
	*every = seconds;
	return true;
}

static void take_key(struct watch *w, enum top_key key)
{
	struct top *top = &w->top;

	switch (key) {
	case TOP_KEY_QUIT:
		w->stop = true;
		break;
	case TOP_KEY_NEXT:
		top->sort = (top->sort + 1) % TOP_NR_SORTS;
		break;
	case TOP_KEY_PREVIOUS:
		top->sort = (top->sort + TOP_NR_SORTS - 1) % TOP_NR_SORTS;
		break;
	case TOP_KEY_ANSWER:
		top_take_every(top_screen_answer(), &top->every);
		break;
	case TOP_KEY_BACK:
		w->stop = w->back = w->of_all;
		break;
	case TOP_KEY_ENTER:
	case TOP_KEY_OTHER:
	case TOP_KEY_NONE:
		break;
	}
}

static void take_keys(struct watch *w)
{
	enum top_key key;

	while (!w->stop && (key = top_screen_key()) != TOP_KEY_NONE)
		take_key(w, key);
	if (!w->stop)
		draw(w);
}

static bool is_over(const struct watch *w)
{
	return w->stop || w->client->ended || w->client->gone;
}

/* Until the next look is due, from the last one on; or until there is none. */
static void wait_for_next(struct watch *w)
{
	while (!is_over(w)) {
		uint64_t due = w->top.now.at + (uint64_t)(w->top.every * 1e9), now = now_ns();
		struct pollfd fds[] = {{.fd = w->signals, .events = POLLIN},
				       {.fd = w->client->fd, .events = POLLIN},
				       {.fd = w->opt->batch ? -1 : STDIN_FILENO, .events = POLLIN}};

		if (now >= due)
			return;
		/* A signal that nobody blocks is the terminal's new size: a key says so. */
		int n = poll(fds, 3, (int)((due - now) / 1000000) + 1);
		if (n > 0 && (fds[0].revents || fds[2].revents & (POLLHUP | POLLERR)))
			w->stop = true;
		if (n > 0 && fds[1].revents)
			client_hear(w->client);
		if (!w->opt->batch && !w->stop)
			take_keys(w);
	}
}

static int watch(struct watch *w, struct foal_error *err)
{
	unsigned looks = 0;
	int r = 0;

	while (r == 0 && !is_over(w)) {
		r = look(w, err);
		if (r == 0)
			r = show(w, err);
		if (r == 0 && ++looks == w->opt->count)
			w->stop = true;
		if (r == 0)
			wait_for_next(w);
	}
	return r;
}

/* --- from start to end ----------------------------------------------------------------- */

static bool signal_waits(int signals)
{
	struct signalfd_siginfo info;

	return read(signals, &info, sizeof(info)) == sizeof(info);
}

/* How it ended is said where it can be read: on the terminal as it was before. */
static int finish(struct watch *w, struct foal_error *err)
{
	const struct client *client = w->client;

	if (signal_waits(w->signals))
		return 0;
	if (client->ended) {
		printf("%s: the VM has ended, status %d%s%s\n", client->name, client->end_status,
		       client->end_text[0] ? ": " : "", client->end_text);
		return 0;
	}
	if (client->gone)
		error_set(err, FOAL_EXIT_CONTROL, -ECONNRESET,
			  "%s: the VM is gone, and did not say why", client->name);
	return remote_finish(err, 0);
}

static void open_log(struct watch *w)
{
	struct foal_error err = {0}; /* without one, recent times are not known */

	w->top.log = remote_log_open(w->client, true, &w->top.meta, &w->records, &err) == 0;
}

/* NULL: out of memory. Signals wait from here on. */
static struct watch *begin(const struct top_options *opt, struct client *client)
{
	sigset_t set = ending_signals();
	struct watch *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	w->opt = opt;
	w->client = client;
	w->top.vm = client->name;
	w->top.every = opt->every;
	w->top.sort = (enum top_sort)opt->sort;
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	w->signals = client->interrupt_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return w;
}

static void end(struct watch *w)
{
	ept_records_close(w->records);
	trace_meta_free(&w->top.meta);
	close(w->signals);
	free(w);
}

bool top_one(const struct top_options *opt, const struct run_dir *dir, const char *name)
{
	struct foal_error err = {0}; /* what keeps it from being shown is seen in its row */
	struct client client;
	bool back = true;

	if (client_open_within(&client, dir, name, TOP_SILENT_MS, &err))
		return true;
	struct watch *w = begin(opt, &client);
	if (w) {
		w->of_all = true;
		open_log(w);
		watch(w, &err);
		back = !w->stop || w->back;
		end(w);
	}
	client_close(&client);
	return back;
}

static int top(const struct remote_options *remote, struct run_dir *dir, struct client *client)
{
	const struct top_options *opt = (const struct top_options *)remote;
	struct foal_error err = {0};
	struct watch *w = begin(opt, client);

	(void)dir;
	if (!w) {
		error_set(&err, FOAL_EXIT_HOST, -ENOMEM, "out of memory");
		return remote_finish(&err, 0);
	}
	if (opt->batch || top_screen_open(&err) == 0) {
		open_log(w);
		watch(w, &err);
		if (!opt->batch)
			top_screen_close();
	}
	int status = finish(w, &err);
	end(w);
	return status;
}

/* --- the command line ------------------------------------------------------------------------ */

static int take_option(int option, const char *value, struct top_options *out)
{
	static const char *const sorts[] = {
#define X(id, name) name,
	    TOP_SORTS(X)
#undef X
		NULL};
	struct foal_error err = {0};

	if (option == 'b')
		out->batch = true;
	else if (option == 'r')
		out->remote.run_dir = value;
	else if (option == 'd' && !top_take_every(value, &out->every))
		return usage_error("top: -d %s: give seconds, 0.1 to 3600", value);
	else if (option == 'n' && option_count("count", value, 1, COUNT_MAX, &out->count, &err))
		return usage_error("top: -n %s: give a whole number, 1 to %u", value, COUNT_MAX);
	else if (option == 's' && option_word("sort", value, sorts, &out->sort, &err))
		return usage_error("top: -s %s: give faults, rate, pages, p99 or case", value);
	return 0;
}

static int take_name(int argc, char **argv, struct top_options *out)
{
	if (argc == 0)
		return 0;
	if (argc > 1)
		return usage_error("top: %s: not taken; see foal help top", argv[1]);
	out->remote.name = argv[0];
	const char *fault = vm_name_fault(argv[0]);
	return fault ? usage_error("top: %s: no VM's name: %s", argv[0], fault) : 0;
}

static int parse(int argc, char **argv, struct top_options *out)
{
	static const struct option longs[] = {
	    {"batch", no_argument, NULL, 'b'},	       {"delay", required_argument, NULL, 'd'},
	    {"count", required_argument, NULL, 'n'},   {"sort", required_argument, NULL, 's'},
	    {"run-dir", required_argument, NULL, 'r'}, {0}};
	int i, r = 0;

	*out = (struct top_options){.remote = {.command = "top"}, .every = 2};
	opterr = 0;
	while (r == 0 && (i = getopt_long(argc, argv, ":bd:n:s:", longs, NULL)) != -1) {
		if (i == ':')
			r = usage_error("top: %s needs a value", argv[optind - 1]);
		else if (i == '?')
			r = usage_error("top: %s: no such option; see foal help top",
					argv[optind - 1]);
		else
			r = take_option(i, optarg, out);
	}
	return r ? r : take_name(argc - optind, argv + optind, out);
}

int command_top(int argc, char **argv, uint64_t main_ns)
{
	struct top_options opt;
	int r = parse(argc, argv, &opt);

	(void)main_ns;
	if (r == 0 && !opt.remote.name)
		return top_all(&opt);
	return r ? r : remote_run(&opt.remote, top);
}
