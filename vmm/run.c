/* foal run: parse, build, run, report. */
#include "vmm/run.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "vmm/console.h"
#include "vmm/stats.h"
#include "vmm/vm.h"

/* How soon to offer typed characters again to a serial port that is full. */
#define PUMP_RETRY_MS 10

static const int ending_signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};

/* Signals that end a run are read from a descriptor, so that no way out is special. */
static int open_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < sizeof(ending_signals) / sizeof(ending_signals[0]); i++)
		sigaddset(&set, ending_signals[i]);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN); /* nobody reads the console: EPIPE */
	signal(SIGXFSZ, SIG_IGN); /* a file may not grow: EFBIG */
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void take_signal(struct vm *vm, int fd)
{
	struct signalfd_siginfo info;

	if (read(fd, &info, sizeof(info)) == sizeof(info))
		vm_end(vm, FOAL_EXIT_SIGNAL + (int)info.ssi_signo, "%s: ended by signal %u (%s)",
		       vm->opt->name, info.ssi_signo, strsignal((int)info.ssi_signo));
}

static void check_time_limit(struct vm *vm)
{
	unsigned limit = vm->opt->time_limit;

	if (limit && now_ns() - vm->main_ns > limit * 1000000000ULL)
		vm_end(vm, FOAL_EXIT_STUCK, "%s: still running after %u s (--time-limit)",
		       vm->opt->name, limit);
}

/* Milliseconds to the next thing that is due by the clock. */
static int next_timeout(const struct vm *vm, uint64_t last_look, bool typed_left)
{
	uint64_t now = now_ns(), due = last_look + WATCHDOG_PERIOD_MS * 1000000ULL;
	uint64_t limit = vm->main_ns + vm->opt->time_limit * 1000000000ULL;

	if (typed_left)
		return PUMP_RETRY_MS;
	if (vm->opt->time_limit && limit < due)
		due = limit;
	return due > now ? (int)((due - now) / 1000000) + 1 : 0;
}

/* Wait for the end of the run, feeding the guest what is typed meanwhile. */
static void wait_for_end(struct vm *vm, struct console *con, int signals)
{
	struct watchdog dog = {0};
	uint64_t last_look = now_ns();
	bool typed_left = false;

	while (!atomic_load(&vm->stopping)) {
		struct pollfd fds[] = {
		    {.fd = vm->end.fd, .events = POLLIN},
		    {.fd = ept_space_failure_fd(vm->space), .events = POLLIN},
		    {.fd = signals, .events = POLLIN},
		    {.fd = console_poll_fd(con), .events = POLLIN},
		};
		if (poll(fds, 4, next_timeout(vm, last_look, typed_left)) < 0 && errno != EINTR)
			vm_end(vm, FOAL_EXIT_INTERNAL, "%s: poll: %s", vm->opt->name,
			       strerror(errno));
		const struct ept_failure *failure = ept_space_failure(vm->space);
		if (failure)
			vm_end(vm, FOAL_EXIT_FAULT, "%s", failure->message);
		if (fds[2].revents)
			take_signal(vm, signals);
		if (fds[3].revents && console_read(con))
			vm_end(vm, FOAL_EXIT_QUIT, "%s: ended from the console", vm->opt->name);
		typed_left = console_pump(con, vm->serial);
		check_time_limit(vm);
		if (now_ns() - last_look >= WATCHDOG_PERIOD_MS * 1000000ULL) {
			watchdog_look(&dog, vm);
			last_look = now_ns();
		}
	}
}

/* Whether @a tells more about lost writes than @b: dirty pages, or at least a file that had some.
 */
static bool lost_more(const struct ept_area_info *a, const struct ept_area_info *b)
{
	if (!a->file || a->mode != EPT_FILE_SHARED)
		return false;
	return !b->file || (a->dirty && !b->dirty);
}

/* What could not be written back, by the name of its file. */
static void report_unwritten(struct vm *vm, int error)
{
	struct ept_area_info lost = {.file = NULL};
	char amount[32] = "what"; /* the kernel's engine does not count dirty pages */

	for (size_t i = 0; i < ept_area_count(vm->space); i++) {
		struct ept_area_info info;
		ept_area_info(ept_area_at(vm->space, i), &info);
		if (lost_more(&info, &lost))
			lost = info;
	}
	if (lost.dirty)
		snprintf(amount, sizeof(amount), "%llu KiB that",
			 (unsigned long long)lost.dirty >> 10);
	notice("%s: %s: %s the guest wrote could not be written back: %s; what was flushed "
	       "before is on disk",
	       vm->opt->name, lost.file ? lost.file : "a shared file", amount, strerror(-error));
	if (vm->end.status < FOAL_EXIT_RESERVED)
		vm->end.status = FOAL_EXIT_FLUSH;
}

static int run_vm(struct vm *vm, struct foal_error *err)
{
	struct console con;
	int signals = open_signals();
	int r = vm_build(vm, err);

	if (r)
		goto out;
	console_open(&con);
	r = vm_start(vm, err);
	if (r == 0)
		wait_for_end(vm, &con, signals);
	int unwritten = vm_stop(vm);
	console_restore();
	if (r)
		goto out;
	if (vm->end.error.text[0])
		error_print(&vm->end.error);
	/* Where a guest got stuck is the first thing its owner asks. */
	for (unsigned i = 0; i < vm->vcpu_count && vm->end.status == FOAL_EXIT_STUCK; i++)
		vcpu_print_registers(&vm->vcpus[i]);
	if (unwritten)
		report_unwritten(vm, unwritten);
	r = stats_report(vm, err);
out:
	vm_destroy(vm);
	if (signals >= 0)
		close(signals);
	return r ? err->status : vm->end.status;
}

int command_run(int argc, char **argv, uint64_t main_ns)
{
	struct foal_error err = {0};
	struct run_options opt;
	struct vm *vm;
	int status = FOAL_EXIT_HOST;

	if (options_parse(argc, argv, &opt, &err)) {
		error_print(&err);
		return err.status;
	}
	vm = calloc(1, sizeof(*vm));
	if (vm) {
		vm->opt = &opt;
		vm->main_ns = main_ns;
		vm->console_out =
		    opt.stats == STATS_JSON && !opt.stats_file ? STDERR_FILENO : STDOUT_FILENO;
		status = run_vm(vm, &err);
	}
	if (err.status)
		error_print(&err);
	options_free(&opt);
	free(vm);
	return status;
}
