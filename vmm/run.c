/* foal run: parse, build, run, report. */
#include "vmm/run.h"

#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "ept/stats.h"
#include "vmm/background.h"
#include "vmm/console.h"
#include "vmm/restore.h"
#include "vmm/stats.h"
#include "vmm/vm.h"

/* How soon to offer typed characters again to a console that is full. */
#define PUMP_RETRY_MS 10

/* What ends a process by default; crashes are console.c's. */
static const int ending[] = {SIGINT,	SIGTERM, SIGHUP, SIGQUIT, SIGUSR2,   SIGALRM,
			     SIGVTALRM, SIGPROF, SIGIO,	 SIGPWR,  SIGSTKFLT, SIGXCPU};

sigset_t ending_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < sizeof(ending) / sizeof(ending[0]); i++)
		sigaddset(&set, ending[i]);
	return set;
}

/*
 * Signals that end a run are read from a descriptor, so that no way out is
 * special. From here to release_signals() there is something to put in order
 * first; before and after, they end the process as they do any other.
 */
static int open_signals(int *fd, struct foal_error *err)
{
	sigset_t set = ending_signals();

	*fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (*fd < 0)
		return error_set(err, FOAL_EXIT_HOST, -errno, "signalfd: %s", strerror(errno));
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	return 0;
}

/* Repeats of the signal that ended the run are dropped: its end is to be reported. */
static void release_signals(int fd)
{
	struct signalfd_siginfo info;
	sigset_t set = ending_signals();

	while (read(fd, &info, sizeof(info)) == sizeof(info))
		;
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	close(fd);
}

static void ignore_signals(void)
{
	signal(SIGPIPE, SIG_IGN); /* nobody reads the console: EPIPE */
	signal(SIGXFSZ, SIG_IGN); /* a file may not grow: EFBIG */
	signal(SIGTTOU, SIG_IGN); /* the terminal is put back from the background, too */
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

static void serve_request(struct vm *vm, struct console *con)
{
	switch (console_read(con)) {
	case CONSOLE_NOTHING:
		break;
	case CONSOLE_QUIT:
		vm_end(vm, FOAL_EXIT_QUIT, "%s: ended from the console", vm->opt->name);
		break;
	case CONSOLE_POWER_BUTTON:
		con->button = true;
		break;
	}
}

/* What was typed goes to the guest, if it is not paused, as it takes it; true: some is left. */
static bool pump_console(struct vm *vm, struct console *con)
{
	if ((con->count == 0 && !con->button) || !quiesce_enter(&vm->quiesce))
		return con->count || con->button;
	if (con->button)
		acpi_pm_raise(vm->acpi_pm, FOAL_ACPI_POWER_BUTTON);
	con->button = false;
	bool left = vm->hvc ? console_pump(con, virtio_console_input, vm->hvc)
			    : console_pump(con, serial_input, vm->serial);
	quiesce_leave(&vm->quiesce);
	return left;
}

/* Milliseconds to the next thing that is due by the clock. */
static int next_timeout(const struct vm *vm, uint64_t last_look, bool typed_left)
{
	uint64_t now = now_ns(), due = last_look + WATCHDOG_PERIOD_MS * 1000000ULL;
	uint64_t limit = vm->main_ns + vm->opt->time_limit * 1000000000ULL;
	uint64_t look = debt_due(&vm->debt);

	if (typed_left)
		return PUMP_RETRY_MS;
	if (vm->opt->time_limit && limit < due)
		due = limit;
	if (look < due)
		due = look;
	return due > now ? (int)((due - now) / 1000000) + 1 : 0;
}

/* Wait for the end of the run, feeding the guest what is typed meanwhile. */
static void wait_for_end(struct vm *vm, struct console *con, int signals)
{
	struct watchdog dog;
	uint64_t last_look = now_ns();
	bool typed_left = false, asked = false;

	if (watchdog_init(&dog, vm))
		vm_end(vm, FOAL_EXIT_HOST, "%s: out of memory for the watchdog", vm->opt->name);
	debt_begin(&vm->debt);
	while (!atomic_load(&vm->stopping)) {
		struct pollfd fds[5 + MAX_HELPERS] = {
		    {.fd = vm->end.fd, .events = POLLIN},
		    {.fd = ept_space_failure_fd(vm->space), .events = POLLIN},
		    {.fd = signals, .events = POLLIN},
		    {.fd = console_poll_fd(con), .events = POLLIN},
		    {.fd = control_poll_fd(vm->control, asked), .events = POLLIN},
		};
		helpers_poll(&vm->helpers, fds + 5);
		if (poll(fds, 5 + vm->helpers.count, next_timeout(vm, last_look, typed_left)) < 0 &&
		    errno != EINTR)
			vm_end(vm, FOAL_EXIT_INTERNAL, "%s: poll: %s", vm->opt->name,
			       strerror(errno));
		const struct ept_failure *failure = ept_space_failure(vm->space);
		if (failure)
			vm_end(vm, failure->error == -ETIMEDOUT ? FOAL_EXIT_STUCK : FOAL_EXIT_FAULT,
			       "%s", failure->message);
		if (fds[2].revents)
			take_signal(vm, signals);
		if (fds[3].revents)
			serve_request(vm, con);
		if (fds[4].revents)
			later_make(vm, LATER_CONTROL);
		asked |= fds[4].revents != 0;
		helpers_look(&vm->helpers, fds + 5, vm->opt->name);
		typed_left = pump_console(vm, con);
		check_time_limit(vm);
		if (now_ns() >= debt_due(&vm->debt))
			debt_look(&vm->debt, vm->main_ns, watchdog_fixed(&dog, vm));
		if (now_ns() - last_look >= WATCHDOG_PERIOD_MS * 1000000ULL) {
			watchdog_look(&dog, vm);
			asked = false; /* once more, if there could be no thread */
			last_look = now_ns();
		}
	}
	watchdog_end(&dog);
}

/* What could not be written back. How much is known only where our handlers saw the writes. */
static void report_unwritten(struct vm *vm, int error)
{
	struct ept_area_info info;
	char amount[32] = "some";

	ept_area_info(vm->unwritten, &info);
	if (info.dirty)
		snprintf(amount, sizeof(amount), "%" PRIu64 " KiB", info.dirty >> 10);
	notice("%s: %s: %s of what the guest wrote is lost: %s; what was flushed before is on disk",
	       vm->opt->name, info.file, amount, strerror(-error));
	if (vm->end.status < FOAL_EXIT_RESERVED)
		vm->end.status = FOAL_EXIT_FLUSH;
}

/*
 * Something hangs in the host's kernel, with threads that may wake any moment: they
 * end with the process, which main ends next, and nothing they use is taken apart.
 */
static void abandon(struct vm *vm)
{
	const struct ept_failure *failure = ept_space_failure(vm->space);

	vm->abandoned = true;
	if (failure && strcmp(failure->message, vm->end.error.text) != 0)
		notice("%s", failure->message);
	notice(
	    "%s: ended without waiting for what hangs: no statistics, and what the guest did not "
	    "flush may be lost",
	    vm->opt->name);
}

/* Who started a VM in the background waits for this; if it was interrupted, so is the VM. */
static void tell_it_runs(struct vm *vm, struct background *bg)
{
	gate_wait(&vm->running);
	if (!atomic_load(&vm->stopping) && (vm->birth ? fork_tell(vm) : background_tell(bg)))
		vm_end(vm, FOAL_EXIT_QUIT, "%s: who started it in the background is gone",
		       vm->opt->name);
	if (vm->birth)
		malloc_trim(0);
	fork_trim_stack(vm);
}

int run_vm(struct vm *vm, struct background *bg, struct foal_error *err)
{
	struct console con;
	int r, status;

	if (!vm->birth)
		ignore_signals();
	/* Without KVM nothing else counts: no file has been opened, and none emptied. */
	r = vm->birth ? 0 : vm_begun(vm, err);
	if (r == 0)
		r = stats_open(vm, err);
	if (r) {
		if (vm->begun)
			vm_destroy(vm);
		return err->status;
	}
	r = vm->birth ? vm_rebuild(vm, err) : vm_build(vm, err);
	if (r == 0)
		r = control_open(vm->control, vm, err);
	if (r == 0)
		r = open_signals(&vm->signals_fd, err);
	if (r)
		goto out;
	console_open(&con);
	r = vm_start(vm, err);
	if (r == 0) {
		tell_it_runs(vm, bg);
		wait_for_end(vm, &con, vm->signals_fd);
	}
	int unwritten = 0;
	bool stopped = vm_stop(vm, &unwritten);
	console_restore();
	/* Nobody may be reading what is printed now. */
	release_signals(vm->signals_fd);
	vm->signals_fd = -1;
	if (r && stopped)
		goto out;
	if (stopped)
		restore_record(vm);
	if (vm->end.error.text[0])
		error_print(&vm->end.error);
	if (!stopped) {
		abandon(vm);
		r = r ? err->status : vm->end.status;
		control_end(vm->control, r, vm->end.error.text);
		return r;
	}
	/* Where a guest got stuck is the first thing its owner asks. */
	for (unsigned i = 0; i < vm->vcpu_count && vm->end.status == FOAL_EXIT_STUCK; i++)
		vcpu_print_registers(&vm->vcpus[i]);
	if (unwritten)
		report_unwritten(vm, unwritten);
	if (ept_space_trace_error(vm->space))
		notice("%s: the trace %s ends early: %s", vm->opt->name, vm->opt->trace,
		       strerror(-ept_space_trace_error(vm->space)));
	r = stats_report(vm, err);
out:
	status = r ? err->status : vm->end.status;
	if (!control_end(vm->control, status, r ? err->text : vm->end.error.text)) {
		vm->abandoned = true;
		return status;
	}
	if (vm->abandoned)
		return status;
	vm_destroy(vm);
	stats_close(vm);
	return status;
}

/* Its console: the terminal's, or standard error where the statistics have standard output. */
static int console_of(const struct run_options *opt)
{
	if (opt->background)
		return -1; /* foal console shows it */
	return opt->stats == STATS_JSON && !opt->stats_file ? STDERR_FILENO : STDOUT_FILENO;
}

static int no_memory(struct foal_error *err)
{
	error_set(
	    err, FOAL_EXIT_HOST, -ENOMEM,
	    "no memory for what foal itself needs; free some, or raise its limit (ulimit -v)");
	return err->status;
}

static int run(struct vm *vm, const struct run_options *opt, const struct vm_restore *restore,
	       struct control *control, struct background *bg, uint64_t main_ns, bool *abandoned,
	       struct foal_error *err)
{
	if (!vm)
		vm = calloc(1, sizeof(*vm));
	if (!vm)
		return no_memory(err);
	vm->opt = opt;
	vm->restore = restore;
	vm->control = control;
	vm->main_ns = main_ns;
	vm->console_out = console_of(opt);
	int status = run_vm(vm, bg, err);
	*abandoned = vm->abandoned;
	if (!vm->abandoned)
		free(vm);
	return status;
}

/* In the foreground a VM can do without being found, if nobody said where. */
static int claim_name(struct control **control, const struct run_options *opt,
		      struct foal_error *err)
{
	int r = control_claim(control, opt, err);

	if (r == 0 || opt->background || opt->run_dir || err->status != FOAL_EXIT_HOST)
		return r;
	notice("%s; this VM has no control socket", err->text);
	*err = (struct foal_error){0};
	control_close(*control);
	*control = NULL;
	return 0;
}

int run_machine(struct run_options *opt, const struct vm_restore *restore, struct vm *vm,
		uint64_t main_ns, bool *abandoned)
{
	struct control *control = NULL;
	struct background bg = {.tell = -1};
	struct foal_error err = {0};
	int status = FOAL_EXIT_HOST;
	int r = vm ? vm_begun(vm, &err) : 0;

	if (r == 0 && opt->named)
		r = claim_name(&control, opt, &err);
	if (r == 0 && opt->background)
		r = background_start(&bg, &control->dir, opt->name, &status, &err);
	*abandoned = false;
	if (r == 0)
		status = run(vm, opt, restore, control, &bg, main_ns, abandoned, &err);
	else
		vm_forget(vm, opt);
	if (err.status) {
		error_print(&err);
		status = err.status;
	}
	if (*abandoned)
		return status;
	control_close(control);
	options_free(opt);
	return status;
}

int command_run(int argc, char **argv, uint64_t main_ns)
{
	struct foal_error err = {0};
	struct run_options opt;
	bool abandoned;

	if (options_parse(argc, argv, &opt, &err)) {
		error_print(&err);
		return err.status;
	}
	return run_machine(&opt, NULL, vm_begin_ahead(&opt), main_ns, &abandoned);
}
