#include "vmm/template.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "devices/fd_passing.h"
#include "vmm/fork_child.h"
#include "vmm/fork_disks.h"
#include "vmm/run.h"
#include "vmm/vm.h"

#define POOL_RETRY_NS 1000000000ULL
/* A clone that was taken from the pool has its first moments to itself. */
#define POOL_PAUSE_NS 5000000ULL
/* How often children that may have ended are looked for. */
#define REAP_MS	      1000

/* --- clones -------------------------------------------------------------------------------- */

/* In a clone: what is the template's alone. */
static void let_go(struct vm *vm)
{
	struct template *t = vm->template;

	for (unsigned i = 0; i < t->ready; i++)
		close(t->pool[i].fd);
	if (t->asked_by >= 0)
		close(t->asked_by);
	control_let_go(vm->control);
}

/* @order NULL: one for the pool, which hears its name by @await, as long as @channel is open here.
 */
static pid_t fork_clone(struct vm *vm, const struct order *order, int channel, int await)
{
	struct template *t = vm->template;
	struct ept_fork memory;
	int r = ept_space_fork_begin(vm->space, &memory);

	if (r)
		return r;
	pid_t pid = fork();
	if (pid == 0) {
		t->birth->forked_ns = now_ns();
		t->birth->await_fd = await;
		t->birth->ahead = !order;
		t->birth->heed_fd = order ? -1 : fcntl(await, F_DUPFD_CLOEXEC, 0);
		if (!order && t->birth->heed_fd < 0)
			process_end(FOAL_EXIT_HOST);
		r = ept_space_fork_child(vm->space, &memory, NULL);
		let_go(vm);
		if (!order) {
			close(channel);
			channel = -1;
		}
		if (r && order)
			tell_failure(channel, order->name, error_text(r));
		if (r)
			process_end(FOAL_EXIT_MEMORY);
		become_vm(vm, t->birth, order, channel);
	}
	r = pid < 0 ? -errno : 0;
	ept_space_fork_parent(vm->space);
	ept_space_fork_done(vm->space, &memory);
	t->children += r == 0;
	return r ? r : pid;
}

/* --- the pool -------------------------------------------------------------------------------- */

/* No process, memory or descriptor is left: there may be one later. */
static void wait_a_while(struct template *t)
{
	t->not_before = now_ns() + POOL_RETRY_NS;
}

static void fill_pool(struct vm *vm)
{
	struct template *t = vm->template;
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends)) {
		wait_a_while(t);
		return;
	}
	t->birth->state.clock = CLOCK_FREEZE;
	t->birth->state.reset_point = false;
	pid_t pid = fork_clone(vm, NULL, ends[0], ends[1]);
	close(ends[1]);
	if (pid < 0) {
		close(ends[0]);
		wait_a_while(t);
		return;
	}
	t->pool[t->ready++] = (struct pooled){.fd = ends[0], .pid = pid};
}

/* If it waited for a name, it has ended without one: so may the next, if it is made at once. */
static void forget_pooled(struct template *t, pid_t pid)
{
	for (unsigned i = 0; i < t->ready; i++) {
		if (t->pool[i].pid != pid)
			continue;
		close(t->pool[i].fd);
		t->pool[i] = t->pool[--t->ready];
		wait_a_while(t);
		return;
	}
}

static bool pass_on(int fd, const struct order *order, int channel)
{
	int files[FORK_FILES];
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(files))];
	} control = {0};
	struct iovec iov = {(void *)(uintptr_t)order->name, strlen(order->name)};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control.bytes,
			     .msg_controllen = sizeof(control.bytes)};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	memcpy(files, order->files, sizeof(files));
	files[FORK_SWAP] = channel;
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(files));
	memcpy(CMSG_DATA(cmsg), files, sizeof(files));
	return sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0;
}

/* One that is gone is no use; the next may be. */
static bool from_pool(struct template *t, const struct order *order, int channel)
{
	bool passed = false;

	while (t->ready && !passed) {
		int fd = t->pool[--t->ready].fd;

		passed = pass_on(fd, order, channel);
		close(fd);
	}
	if (passed && now_ns() >= t->not_before)
		t->not_before = now_ns() + POOL_PAUSE_NS; /* not again and again */
	return passed;
}

void template_await(struct vm *vm)
{
	struct fork_birth *birth = vm->birth;
	struct order order;

	sigset_t ending = ending_signals();

	/* What ends a run ends one that did not begin: there is nothing to put in order. */
	pthread_sigmask(SIG_UNBLOCK, &ending, NULL);
	if (!receive_order(birth->await_fd, &order, NULL) || order.count != FORK_FILES)
		process_end(0); /* nobody wants it any more */
	pthread_sigmask(SIG_BLOCK, &ending, NULL);
	close(birth->await_fd);
	dup2(order.files[FORK_LOG], STDERR_FILENO);
	close(order.files[FORK_LOG]);
	close(order.files[FORK_NULL]);
	snprintf(birth->opt.name, sizeof(birth->opt.name), "%s", order.name);
	birth->channel = order.files[FORK_SWAP];
	birth->await_fd = -1;
	vm->main_ns = now_ns();
	ept_space_begins(vm->space, vm->main_ns);
	vm->control->lock_fd = order.files[FORK_LOCK];
	vm->control->listen_fd = order.files[FORK_LISTEN];
	ept_space_rename(vm->space, order.name); /* else messages say the template's */
	gate_arrive(&vm->confined);
}

bool template_asked(const struct vm *vm)
{
	struct pollfd pfd = {.fd = vm->birth->heed_fd, .events = POLLIN};

	return poll(&pfd, 1, 0) != 0;
}

int template_heed(struct vm *vm, struct foal_error *err)
{
	struct pollfd pfd = {.fd = vm->birth->heed_fd, .events = POLLIN};

	/*
	 * Who has taken the message before it was seen here: the template hangs up behind it. What
	 * cannot run need not wait: the main thread joins this one, and the process ends.
	 */
	while (!atomic_load(&vm->stopping) && poll(&pfd, 1, -1) < 0)
		;
	close(vm->birth->heed_fd);
	vm->birth->heed_fd = -1;
	if (atomic_load(&vm->stopping) || vm_state_load_clocks(vm, NULL) == 0)
		return 0;
	/* What is said has its name in it, which is there from then on. */
	gate_wait(&vm->confined);
	return vm_state_load_clocks(vm, err);
}

/* --- requests -------------------------------------------------------------------------- */

/* False: who asks makes no sense, or does not listen. */
static bool clone_one(struct vm *vm, const struct fork_request *request, struct order *order)
{
	struct template *t = vm->template;
	int r;

	const char *fault = order_fault(order, request);
	if (fault) {
		tell_fault(request->channel, order, fault);
		return false;
	}
	t->birth->state.clock = request->clock;
	t->birth->state.reset_point = request->reset_point;
	const char *gone = fork_disks_share(vm, order->disks);
	if (gone)
		return tell_failure(request->channel, order->name, gone) == 0;
	if (request->clock == CLOCK_FREEZE && !request->reset_point &&
	    from_pool(t, order, request->channel))
		return true;
	r = fork_clone(vm, order, request->channel, -1);
	return r >= 0 || tell_failure(request->channel, order->name, error_text(r)) == 0;
}

/* False: none came within *@left_ms, or who asks is not served further. */
static bool clone_next(struct vm *vm, const struct fork_request *request, int *left_ms)
{
	struct order order;
	bool served =
	    receive_order(request->channel, &order, left_ms) && clone_one(vm, request, &order);

	close_order(&order);
	return served;
}

unsigned template_clone_first(struct vm *vm, const struct fork_request *request)
{
	struct pollfd pfd = {.fd = request->channel, .events = POLLIN};
	int left_ms = 0;

	fcntl(request->channel, F_SETFL, O_NONBLOCK);
	if (!request->count || poll(&pfd, 1, 0) != 1)
		return 0;
	return clone_next(vm, request, &left_ms) ? 1 : request->count;
}

void template_clone_rest(struct vm *vm, const struct fork_request *request, unsigned begun)
{
	int left_ms = FORK_WAIT_MS;

	while (begun < request->count && clone_next(vm, request, &left_ms))
		begun++;
}

static bool hungry(const struct template *t)
{
	return t->ready < t->wanted && now_ns() >= t->not_before;
}

int template_timeout(const struct vm *vm)
{
	const struct template *t = vm->template;
	uint64_t now = now_ns();

	if (!t || (!t->children && t->ready >= t->wanted))
		return -1;
	if (t->ready >= t->wanted)
		return REAP_MS;
	return now >= t->not_before ? 0 : (int)((t->not_before - now) / 1000000) + 1;
}

bool template_tend(struct vm *vm)
{
	struct template *t = vm->template;
	siginfo_t info = {0};

	if (!t)
		return false;
	while (t->children && waitid(P_ALL, 0, &info, WEXITED | WNOHANG) == 0 && info.si_pid) {
		t->children--;
		forget_pooled(t, info.si_pid);
		info.si_pid = 0;
	}
	if (hungry(t))
		fill_pool(vm);
	return hungry(t);
}

/* --- the process ----------------------------------------------------------------------------- */

static int become_template(struct vm *vm, struct fork_birth *birth, struct ept_fork *memory,
			   int adopted, const struct order *order, struct foal_error *err)
{
	int r = ept_space_fork_child(vm->space, memory, NULL);
	const struct ept_failure *failure;

	close(adopted);
	if (r == 0)
		r = ept_space_template(vm->space);
	failure = ept_space_failure(vm->space);
	if (r)
		return error_set(err, FOAL_EXIT_MEMORY, r, "%s",
				 failure ? failure->message : strerror(-r));
	become_background(order);
	own_options(birth, vm->opt, order->name);
	birth->forked_ns = now_ns();
	begin_anew(vm, birth, -1);
	control_forked(vm->control, order->files[FORK_LOCK], order->files[FORK_LISTEN]);
	ept_space_rename(vm->space, order->name);
	return control_open(vm->control, vm, err);
}

_Noreturn void template_serve(struct vm *vm, const struct fork_request *request,
			      struct fork_birth *birth, struct ept_fork *memory, int adopted)
{
	static struct template template; /* of this process alone */
	struct foal_error err = {0};
	struct order order;
	int left_ms = FORK_WAIT_MS;

	if (!receive_order(request->channel, &order, &left_ms))
		process_end(FOAL_EXIT_USAGE);
	const char *fault = order_fault(&order, request);
	if (fault) {
		tell_fault(request->channel, &order, fault);
		process_end(FOAL_EXIT_USAGE);
	}
	if (become_template(vm, birth, memory, adopted, &order, &err)) {
		tell_failure(request->channel, order.name, err.text);
		process_end(err.status);
	}
	/* Of a clone's template it is a copy of that clone's own template's: nothing of that holds.
	 */
	template.ready = template.wanted = template.children = 0;
	template.not_before = 0;
	template.birth = birth;
	/* What a clone is to have of its own it has from the start. */
	if (!vm->opt->net_count && !vm->opt->vsock.path && !fork_disks_behind(vm->opt))
		template.wanted = request->pool;
	template.asked_by = request->channel;
	vm->template = &template;
	while (template_tend(vm))
		;
	fork_say(request->channel,
		 json_pack("{s:b, s:s, s:i}", "ok", 1, "name", order.name, "pid", (int)getpid()));
	close(request->channel);
	template.asked_by = -1;
	control_run(vm->control);
	process_end(0);
}
