/* foal top without a name: all VMs, one of which may be chosen. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "vmm/run.h"
#include "vmm/top.h"
#include "vmm/vm.h"

struct all {
	const struct top_options *opt;
	struct run_dir dir; /* not open: no VM has been there yet */
	int signals;
	bool stop;
	bool look; /* the next one is due now */
	struct top_vms vms;
	struct top_page page;
};

static void draw(struct all *all)
{
	top_screen_measure(&all->page);
	top_vms_lay_out(&all->vms, &all->page);
	top_screen_draw(&all->page);
}

static int show(struct all *all, struct foal_error *err)
{
	if (!all->opt->batch) {
		draw(all);
		return 0;
	}
	all->page.rows = TOP_BATCH_ROWS;
	all->page.columns = TOP_COLUMNS_MAX;
	top_vms_lay_out(&all->vms, &all->page);
	return top_print(&all->page, err);
}

static void enter(struct all *all)
{
	struct top_options opt = *all->opt;

	opt.count = 0;
	opt.every = all->vms.every;
	if (all->vms.selected[0])
		all->stop = !top_one(&opt, &all->dir, all->vms.selected);
	all->look = true;
}

static void take_key(struct all *all, enum top_key key)
{
	switch (key) {
	case TOP_KEY_QUIT:
		all->stop = true;
		break;
	case TOP_KEY_NEXT:
		top_vms_move(&all->vms, 1);
		break;
	case TOP_KEY_PREVIOUS:
		top_vms_move(&all->vms, -1);
		break;
	case TOP_KEY_ENTER:
		enter(all);
		break;
	case TOP_KEY_ANSWER:
		top_take_every(top_screen_answer(), &all->vms.every);
		break;
	case TOP_KEY_BACK:
	case TOP_KEY_OTHER:
	case TOP_KEY_NONE:
		break;
	}
}

static void take_keys(struct all *all)
{
	enum top_key key;

	while (!all->stop && (key = top_screen_key()) != TOP_KEY_NONE)
		take_key(all, key);
	if (!all->stop)
		draw(all);
}

static void wait_for_next(struct all *all)
{
	while (!all->stop && !all->look) {
		uint64_t due = all->vms.at + (uint64_t)(all->vms.every * 1e9), now = now_ns();
		struct pollfd fds[] = {
		    {.fd = all->signals, .events = POLLIN},
		    {.fd = all->opt->batch ? -1 : STDIN_FILENO, .events = POLLIN}};

		if (now >= due)
			return;
		int n = poll(fds, 2, (int)((due - now) / 1000000) + 1);
		if (n > 0 && (fds[0].revents || fds[1].revents & (POLLHUP | POLLERR)))
			all->stop = true;
		if (!all->opt->batch && !all->stop)
			take_keys(all);
	}
}

/* Where no VM has been yet there is no directory: it may come. */
static int look(struct all *all, struct foal_error *err)
{
	int r = all->dir.fd < 0 ? run_dir_open(&all->dir, all->opt->remote.run_dir, false, err) : 0;

	all->look = false;
	if (r == -ENOENT && !err->status)
		all->dir.fd = -1;
	else if (r)
		return r;
	return top_vms_look(&all->vms, &all->dir, all->signals, err);
}

static void watch(struct all *all, struct foal_error *err)
{
	unsigned looks = 0;
	int r = 0;

	while (r == 0 && !all->stop) {
		r = look(all, err);
		if (r == 0)
			r = show(all, err);
		if (r == 0 && ++looks == all->opt->count)
			all->stop = true;
		if (r == 0)
			wait_for_next(all);
	}
}

int top_all(const struct top_options *opt)
{
	sigset_t set = ending_signals();
	struct foal_error err = {0};
	struct all *all = calloc(1, sizeof(*all));

	if (!all) {
		error_set(&err, FOAL_EXIT_HOST, -ENOMEM, "out of memory");
		return remote_finish(&err, 0);
	}
	all->opt = opt;
	all->dir.fd = -1;
	all->vms.every = opt->every;
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	all->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (opt->batch || top_screen_open(&err) == 0) {
		watch(all, &err);
		if (!opt->batch)
			top_screen_close();
	}
	if (all->dir.fd >= 0)
		run_dir_close(&all->dir);
	top_vms_free(&all->vms);
	close(all->signals);
	free(all);
	return remote_finish(&err, 0);
}
