/*
 * The processes that a fork makes: the frozen child, and the VMs that it forks.
 *
 * Each VM's process begins as a copy of the frozen child, with one thread, in the sandbox of
 * the parent's THREAD_FORK. It makes memory its own (ept/fork.c) before it touches any, then
 * builds the machine as a start does, loads the state as a restore does, and goes the way
 * of every run from there (run.c). Of the parent's struct vm it keeps what has to
 * do with memory and files; the space's threads have its address.
 */
#include "vmm/fork.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "devices/fd_passing.h"
#include "ept/fork_threads.h"
#include "vmm/background.h"
#include "vmm/fork_child.h"
#include "vmm/fork_disks.h"
#include "vmm/manifest.h"
#include "vmm/passed_files.h"
#include "vmm/run.h"
#include "vmm/stats.h"
#include "vmm/template.h"
#include "vmm/vm.h"

/* How long a VM that runs waits for who asked for it to listen. */
#define TELL_MS	      5000
/* Of a thread's stack, below what it uses while it waits. Each began near the end of 512 KiB. */
#define STACK_KEPT    1024UL
#define STACK_DROPPED (128UL << 10)

#ifdef __SANITIZE_THREAD__
/*
 * Threads are made in processes that were forked by one of several; those that hang in storage are
 * not joined.
 */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
	return "die_after_fork=0:report_thread_leaks=0";
}
#endif

_Noreturn void process_end(int status)
{
	for (;;)
		syscall(SYS_exit_group, status);
}

void vm_let_go(struct vm *vm)
{
	for (unsigned i = 0; i < vm->vcpu_count; i++) {
		munmap(vm->vcpus[i].run, vm->kvm.run_size);
		if (vm->vcpus[i].stats_fd >= 0)
			close(vm->vcpus[i].stats_fd);
		close(vm->vcpus[i].fd);
	}
	close(vm->kvm.vm_fd);
	vm->kvm.vm_fd = -1;
	control_let_go(vm->control);
	if (vm->hvc_out >= 0)
		close(vm->hvc_out);
	vm->hvc_out = -1;
}

/* --- a message: a name, and what comes with it --------------------------------------------- */

void close_order(struct order *order)
{
	while (order->count)
		close(order->files[--order->count]);
	free(order->ends.vsock_option.path);
	order->ends.vsock_option.path = NULL;
	fork_disks_close(order->disks);
}

static void keep_files(struct order *order, struct msghdr *msg)
{
	for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(msg); cmsg; cmsg = CMSG_NXTHDR(msg, cmsg)) {
		size_t len = cmsg->cmsg_len - CMSG_LEN(0);

		if (!brings_fds(cmsg))
			continue;
		for (size_t at = 0; at + sizeof(int) <= len; at += sizeof(int)) {
			int fd;

			memcpy(&fd, CMSG_DATA(cmsg) + at, sizeof(fd));
			if (order->count < FORK_FILES_MAX)
				order->files[order->count++] = fd;
			else
				close(fd); /* there is room for one more, by its alignment */
		}
	}
}

/* True: something is there. */
static bool wait_for(int channel, int *left_ms)
{
	struct pollfd pfd = {.fd = channel, .events = POLLIN};
	uint64_t begun = now_ns(), took;
	int n = poll(&pfd, 1, left_ms ? *left_ms : -1);

	took = (now_ns() - begun) / 1000000;
	if (left_ms)
		*left_ms = took < (uint64_t)*left_ms ? *left_ms - (int)took : 0;
	return n == 1;
}

/* A name that is too long is none. */
static void take_name(struct order *order, size_t len)
{
	size_t name;

	order->text[len] = 0;
	name = strcspn(order->text, "\n");
	if (name < sizeof(order->name))
		memcpy(order->name, order->text, name);
}

bool receive_order(int channel, struct order *order, int *left_ms)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(FORK_FILES_MAX * sizeof(int))];
	} control;
	struct iovec iov = {order->text, sizeof(order->text) - 1};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control.bytes,
			     .msg_controllen = sizeof(control.bytes)};

	*order = (struct order){.count = 0};
	fork_disks_none(order->disks);
	if (!wait_for(channel, left_ms))
		return false;
	ssize_t n = recvmsg(channel, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	if (n >= 0)
		keep_files(order, &msg);
	if (n > 0)
		take_name(order, (size_t)n);
	if (n == 0)
		close_order(order); /* no name, but it may have brought files */
	return n > 0;
}

/* --- what is told ---------------------------------------------------------------------------- */

int fork_say(int channel, json_t *message)
{
	struct pollfd pfd = {.fd = channel, .events = POLLOUT};
	char text[FORK_MESSAGE];
	size_t len = json_dumpb(message, text, sizeof(text), JSON_COMPACT);
	uint64_t now = now_ns(), until = now + TELL_MS * 1000000ULL;
	ssize_t n = -1;

	json_decref(message);
	if (!len || len > sizeof(text))
		return -EPIPE;
	/* The room for it may be taken by another VM's: they have one channel. */
	do {
		if (poll(&pfd, 1, (int)((until - now) / 1000000)) != 1)
			return -EPIPE;
		/* Whoever has the channel, too, may have made it wait. */
		n = send(channel, text, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	} while (n < 0 && errno == EAGAIN && (now = now_ns()) < until);
	return n < 0 ? -EPIPE : 0;
}

int tell_failure(int channel, const char *name, const char *why)
{
	json_t *text = json_string(why); /* a path in it may be no UTF-8 */

	return fork_say(channel, json_pack("{s:b, s:s, s:o}", "ok", 0, "name", name, "message",
					   text ? text : json_string("it cannot be started")));
}

int fork_tell(struct vm *vm)
{
	struct fork_birth *birth = vm->birth;
	int r =
	    fork_say(birth->channel,
		     json_pack("{s:b, s:s, s:i, s:I, s:I}", "ok", 1, "name", vm->opt->name, "pid",
			       (int)getpid(), "forked_at_ns", (json_int_t)birth->forked_ns,
			       "first_run_at_ns", (json_int_t)atomic_load(&vm->first_run_ns)));

	close(birth->channel);
	birth->channel = -1;
	return r;
}

/* --- a VM ------------------------------------------------------------------------------ */

void own_options(struct fork_birth *birth, const struct run_options *parents, const char *name)
{
	struct run_options *opt = &birth->opt;

	if (opt != parents)
		*opt = *parents;
	if (opt->name != name)
		snprintf(opt->name, sizeof(opt->name), "%s", name);
	opt->named = opt->background = true;
	opt->stats = STATS_OFF;
	opt->stats_file = opt->trace = NULL;
}

void begin_anew(struct vm *vm, struct fork_birth *birth, int swap_fd)
{
	struct vm parents = *vm;

	*vm = (struct vm){.opt = &birth->opt,
			  .birth = birth,
			  .control = parents.control,
			  .restore = &birth->state,
			  .space = parents.space,
			  .image = parents.image,
			  .firmware = parents.firmware,
			  .initrd_fd = parents.initrd_fd,
			  .initrd_gpa = parents.initrd_gpa,
			  .initrd_size = parents.initrd_size,
			  .swap_fd = swap_fd,
			  .vcpu_count = 0,
			  .hvc_out = -1,
			  .console_out = -1,
			  .main_ns = birth->forked_ns};
	vm->kvm = (struct kvm){.dev_fd = parents.kvm.dev_fd,
			       .vm_fd = -1,
			       .run_size = parents.kvm.run_size,
			       .cpuid = parents.kvm.cpuid,
			       .shadow = parents.kvm.shadow};
	vm->sandbox = parents.sandbox;
	sandbox_forked(&vm->sandbox);
	memcpy(vm->disks, parents.disks, sizeof(vm->disks));
	memcpy(vm->pmems, parents.pmems, sizeof(vm->pmems));
	for (unsigned i = 0; i < MAX_FILES; i++) {
		vm->disks[i].option = &birth->opt.disks[i];
		vm->disks[i].device = NULL;
		vm->pmems[i].option = &birth->opt.pmems[i];
		vm->pmems[i].device = NULL;
	}
	for (unsigned i = 0; i < MAX_NETS; i++)
		vm->nets[i].config.fd = -1;
	vm->vsock.listener = vm->vsock.connector = -1;
	for (unsigned i = 0; i < MAX_FILES; i++)
		vm->disks[i].backend = NULL;
	vm->end.fd = vm->signals_fd = -1;
	vm->firmware.fw_cfg = NULL;
	ept_space_begins(vm->space, birth->forked_ns);
}

void take_ends(struct vm *vm, struct fork_birth *birth, const struct order *order)
{
	const struct ends *ends = &order->ends;

	for (unsigned i = 0; i < ends->net_count; i++) {
		birth->opt.nets[i] = ends->net_options[i];
		vm->nets[i].config = ends->nets[i];
	}
	if (ends->vsock_option.path) {
		birth->opt.vsock = ends->vsock_option;
		vm->vsock = ends->vsock;
	}
	manifest_renew_ends(vm->control->machine, &birth->opt);
	for (unsigned i = 0; i < MAX_FILES; i++) {
		if (vm->disks[i].companion >= 0)
			close(vm->disks[i].companion);
		vm->disks[i].companion = order->disks[i];
	}
}

void become_process(void)
{
	sigset_t none;

	setsid();
	ept_use_other_stacks();
	__fpurge(stdout);
	pthread_setname_np(pthread_self(), "foal");
	sigemptyset(&none);
	pthread_sigmask(SIG_SETMASK, &none, NULL);
}

void fork_trim_stack(const struct vm *vm)
{
	uintptr_t end = (uintptr_t)__builtin_frame_address(0) - STACK_KEPT;

	end &= ~(uintptr_t)(EPT_PAGE_SIZE - 1);
	if (vm->birth)
		madvise((char *)end - STACK_DROPPED, STACK_DROPPED, MADV_DONTNEED);
}

void become_background(const struct order *order)
{
	dup2(order->files[FORK_NULL], STDIN_FILENO);
	dup2(order->files[FORK_NULL], STDOUT_FILENO);
	dup2(order->files[FORK_LOG], STDERR_FILENO);
	close(order->files[FORK_NULL]);
	close(order->files[FORK_LOG]);
	become_process();
}

static int own_memory(struct vm *vm, struct ept_fork *memory, const struct order *order)
{
	struct ept_swap_file swap = vm_swap_file(vm->opt, order->files[FORK_SWAP]);

	return ept_space_fork_child(vm->space, memory, vm->opt->limit.swap ? &swap : NULL);
}

/* One that is made ahead has what its template has until it hears its name. */
static void take_order(struct vm *vm, struct fork_birth *birth, const struct order *order,
		       int channel)
{
	const struct run_options *parents = vm->opt;
	bool swaps = order && parents->limit.swap;

	if (order)
		become_background(order);
	else
		become_process();
	own_options(birth, parents, order ? order->name : parents->name);
	birth->channel = channel;
	begin_anew(vm, birth, swaps ? order->files[FORK_SWAP] : -1);
	if (order)
		take_ends(vm, birth, order);
	control_forked(vm->control, order ? order->files[FORK_LOCK] : -1,
		       order ? order->files[FORK_LISTEN] : -1);
}

_Noreturn void become_vm(struct vm *vm, struct fork_birth *birth, const struct order *order,
			 int channel)
{
	struct background nobody = {.tell = -1};
	struct foal_error err = {0};
	int status;

	take_order(vm, birth, order, channel);
	status = run_vm(vm, &nobody, &err);
	if (err.status) {
		error_print(&err);
		status = err.status;
	}
	if (birth->channel >= 0)
		tell_failure(birth->channel, birth->opt.name,
			     err.status ? err.text : "it ended before its guest ran");
	process_end(status);
}

/*
 * What of the parent's swap file was copied stood still: for as long as the frozen child, whose id
 * is @frozen, was not reaped. One that is killed is, whatever is under way.
 */
static bool stood_still(pid_t frozen)
{
	return syscall(SYS_tgkill, frozen, frozen, 0) == 0 || errno != ESRCH;
}

static _Noreturn void become_fork(struct vm *vm, const struct fork_request *request,
				  struct fork_birth *birth, struct ept_fork *memory,
				  const struct order *order, const int adopted[2], pid_t frozen)
{
	birth->forked_ns = now_ns();
	int r = own_memory(vm, memory, order);
	if (r == 0 && vm->opt->limit.swap && !stood_still(frozen)) {
		tell_failure(request->channel, order->name,
			     "who forks it was killed while its swapped memory was copied");
		process_end(FOAL_EXIT_MEMORY);
	}
	close(adopted[0]);
	close(adopted[1]);
	if (r) {
		tell_failure(request->channel, order->name, error_text(r));
		process_end(FOAL_EXIT_MEMORY);
	}
	become_vm(vm, birth, order, request->channel);
}

/* --- the frozen child ------------------------------------------------------------------ */

/* The VM's own devices go; what its disks hold stays. */
static void take_apart(struct vm *vm, struct fork_birth *birth)
{
	for (unsigned i = 0; i < vm->opt->disk_count; i++)
		birth->layers[i] = virtio_blk_give_layers(vm->disks[i].device);
	bus_forked(vm->pio);
	bus_forked(vm->mmio);
	bus_destroy(vm->pio);
	bus_destroy(vm->mmio);
	vm_let_go(vm);
	for (unsigned i = 0; i < vm->helpers.count; i++)
		close(vm->helpers.list[i].pidfd);
	close(vm->end.fd);
	close(vm->signals_fd);
	if (vm->restore && vm->restore->record_fd >= 0)
		close(vm->restore->record_fd); /* its lock would last as long as the copies */
	stats_close(vm);
}

static const char *files_fault(const struct order *order, bool has_swap)
{
	if (!passed_null(order->files[FORK_NULL]))
		return "the first file of a VM is not /dev/null, for reading and writing";
	if (!passed_regular(order->files[FORK_LOCK]))
		return "what came as the lock is no regular file";
	if (!passed_listener(order->files[FORK_LISTEN]))
		return "what came as the control socket is no non-blocking Unix stream socket that "
		       "listens";
	if (!passed_writable(order->files[FORK_LOG]))
		return "what came as the log is no regular file open for writing";
	if (has_swap && !passed_empty(order->files[FORK_SWAP]))
		return "what came to swap to is no empty regular file open for reading and writing";
	return NULL;
}

const char *order_fault(struct order *order, const struct fork_request *request)
{
	unsigned own = request->has_swap ? FORK_FILES : FORK_SWAP, n = ends_count(&request->ends);
	const char *behind = strchr(order->text, '\n');

	if (order->count != own + n || vm_name_fault(order->name) || !behind != !n)
		return "a message is no name with its files";
	const char *fault = files_fault(order, request->has_swap);
	return fault || n == 0
		   ? fault
		   : ends_take(&request->ends, behind + 1, order->files + own, &order->ends);
}

void tell_fault(int channel, const struct order *order, const char *fault)
{
	tell_failure(channel, vm_name_fault(order->name) ? "" : order->name, fault);
}

/* A process of its own: its parent is forked again while it lives. */
static void fork_template(struct vm *vm, const struct fork_request *request,
			  struct fork_birth *birth, struct ept_fork *memory, const int adopted[2])
{
	pid_t pid = fork();

	if (pid == 0) {
		close(adopted[0]);
		template_serve(vm, request, birth, memory, adopted[1]);
	}
	if (pid < 0)
		tell_failure(request->channel, "", error_text(-errno));
}

static void fork_one(struct vm *vm, const struct fork_request *request, struct fork_birth *birth,
		     struct ept_fork *memory, struct order *order, const int adopted[2])
{
	pid_t frozen = getpid();
	const char *fault = order_fault(order, request);
	if (fault) {
		tell_fault(request->channel, order, fault);
		return;
	}
	const char *gone = fork_disks_share(vm, order->disks);
	pid_t pid = gone ? -1 : fork();
	if (pid == 0)
		become_fork(vm, request, birth, memory, order, adopted, frozen);
	if (pid < 0)
		tell_failure(request->channel, order->name, gone ? gone : error_text(-errno));
}

_Noreturn void fork_frozen(struct vm *vm, const struct fork_request *request,
			   struct ept_fork *memory, const uint8_t *state, size_t len)
{
	struct fork_birth birth = {.state = {.state = state,
					     .len = len,
					     .clock = request->clock,
					     .copy = true,
					     .path = vm->restore ? vm->restore->path : NULL,
					     .record_fd = -1},
				   .channel = -1,
				   .await_fd = -1,
				   .heed_fd = -1};
	struct order order;
	/* A stop begins after this is set: before, nothing of the VM was taken apart. */
	bool well = !atomic_load(&vm->stopping);
	int adopted[2], left_ms = FORK_WAIT_MS;
	char byte;

	if (!well) {
		tell_failure(request->channel, "", "the VM is ending");
		process_end(0);
	}
	take_apart(vm, &birth);
	fcntl(request->channel, F_SETFL, O_NONBLOCK);
	if (pipe2(adopted, O_CLOEXEC))
		process_end(FOAL_EXIT_HOST);
	if (request->template)
		fork_template(vm, request, &birth, memory, adopted);
	for (unsigned i = 0; !request->template && i < request->count &&
			     receive_order(request->channel, &order, &left_ms);
	     i++) {
		fork_one(vm, request, &birth, memory, &order, adopted);
		close_order(&order);
	}
	close(request->channel);
	close(adopted[1]);
	/* The parent keeps what they still need until this process ends: its swapped pages. */
	while (read(adopted[0], &byte, 1) < 0 && errno == EINTR)
		;
	process_end(0);
}
