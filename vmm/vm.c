/* A VM's life: built, started, ended, stopped, taken apart. */
#include "vmm/vm.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "ept/record.h"
#include "vmm/bus_error.h"
#include "vmm/fork_disks.h"
#include "vmm/restore.h"
#include "vmm/snapshot.h"

uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void forget_fds(struct vm *vm)
{
	vm->kvm.dev_fd = vm->kvm.vm_fd = -1;
	vm->image.fd = vm->initrd_fd = vm->swap_fd = vm->firmware.fd = vm->end.fd =
	    vm->sandbox.ruleset_fd = vm->sandbox.fork_ruleset_fd = vm->hvc_out = vm->signals_fd =
		-1;
	for (unsigned i = 0; i < MAX_FILES; i++)
		vm->disks[i].fd = vm->pmems[i].fd = vm->disks[i].companion = -1;
	vm->vsock.listener = vm->vsock.connector = -1;
	for (unsigned i = 0; i < MAX_NETS; i++)
		vm->nets[i].config.fd = -1;
}

static void memory_thread_begins(void *ctx, const char *kind)
{
	vm_thread_begins(ctx, strcmp(kind, "read") == 0 ? THREAD_READ : THREAD_FAULT);
}

static void memory_thread_expected(void *ctx)
{
	vm_thread_expected(ctx);
}

struct ept_config vm_space_config(const struct run_options *opt)
{
	return (struct ept_config){
	    .vm_name = opt->name,
	    .engine = opt->engine,
	    .vcpus = opt->cpus,
	    .fault_around = opt->fault_around,
	    .huge = opt->huge,
	    .on_io_error = opt->on_io_error,
	    .fault_timeout = opt->fault_timeout,
	    .memory_limit = opt->limit.bytes,
	    .log = opt->fault_log,
	};
}

struct ept_swap_file vm_swap_file(const struct run_options *opt, int fd)
{
	return (struct ept_swap_file){
	    .fd = fd, .name = opt->limit.swap, .size = opt->limit.swap_size};
}

static int create_traced(struct vm *vm, int trace_fd, struct foal_error *err)
{
	const struct memory_limit *limit = &vm->opt->limit;
	struct ept_swap_file swap = vm_swap_file(vm->opt, vm->swap_fd);
	struct ept_config config = vm_space_config(vm->opt);

	config.swap = limit->swap ? &swap : NULL;
	config.thread_expected = memory_thread_expected;
	config.thread_begins = memory_thread_begins;
	config.thread_ctx = vm;
	config.sample_every = vm->opt->rip_sample;
	config.kick = vcpu_kick_thread;
	config.trace_fd = trace_fd;
	int r = ept_space_create(&config, &vm->space);

	if (r && vm->opt->engine == EPT_ENGINE_AUTO && !limit->bytes &&
	    (r == -EPERM || r == -EACCES || r == -ENOSYS)) {
		notice(
		    "%s: no userfaultfd (%s): the host kernel resolves the faults, so no case is "
		    "counted and shared pmem is read whole; foal doctor says how to mend it",
		    vm->opt->name, strerror(-r));
		config.engine = EPT_ENGINE_KERNEL;
		r = ept_space_create(&config, &vm->space);
	}
	if (r)
		return error_set(err, FOAL_EXIT_HOST, r,
				 "%s: fault handling: userfaultfd: %s; see foal doctor, or %s",
				 vm->opt->name, strerror(-r),
				 limit->bytes ? "leave --memory-limit out"
					      : "use --fault-engine kernel");
	ept_space_begins(vm->space, vm->main_ns);
	if (vm->opt->on_io_error == EPT_IO_POISON && !ept_space_can_poison(vm->space))
		notice("%s: --on-io-error poison: this host cannot (userfaultfd of Linux 6.6 is "
		       "needed): a page that cannot be read stops the VM",
		       vm->opt->name);
	bus_error_catch(vm->space);
	return 0;
}

static int create_space(struct vm *vm, struct foal_error *err)
{
	int trace_fd, r = trace_open(vm->opt, &trace_fd, err);

	if (r == 0)
		r = create_traced(vm, trace_fd, err);
	if (trace_fd > 0)
		close(trace_fd);
	return r;
}

/* A worker's faults blur the cases; where those are not counted, an idle VM should cost nothing. */
static bool halt_exits(const struct run_options *opt)
{
	return opt->halt == HALT_EXIT ||
	       (opt->halt == HALT_AUTO && opt->engine != EPT_ENGINE_HANDLER);
}

struct kvm_machine kvm_machine_of(const struct run_options *opt)
{
	return (struct kvm_machine){
	    .cpus = opt->cpus, .mask = &opt->cpu_mask, .halt_exits = halt_exits(opt)};
}

static int start_space(struct vm *vm, struct foal_error *err)
{
	int r = ept_space_start(vm->space);

	if (r)
		return error_set(err, FOAL_EXIT_MEMORY, r, "%s: guest memory: %s", vm->opt->name,
				 error_text(r));
	return vm->restore && vm->restore->memory ? restore_wait(vm, err) : 0;
}

static int prepare_sandbox(struct vm *vm, struct foal_error *err)
{
	const struct run_options *opt = vm->opt;

	vm->sandbox = (struct sandbox){
	    .on = opt->sandbox, .change_ids = opt->change_ids, .uid = opt->uid, .gid = opt->gid};
	int r = sandbox_prepare(&vm->sandbox, err);

	if (r == 0)
		gate_arrive(&vm->prepared);
	return r;
}

static int start_stopper(struct vm *vm, struct foal_error *err)
{
	int r = stopper_start(vm);

	return r ? error_set(err, FOAL_EXIT_HOST, r, "thread foal-stop: %s", error_text(r)) : 0;
}

/* Memory has what booting wrote there: only the device that firmware asks is made. */
static int restore(struct vm *vm, struct foal_error *err)
{
	int r = vm->opt->firmware ? firmware_configure(vm, err) : 0;

	if (r == 0)
		r = vm_disks_load(vm, err);
	/* Until the local APICs are loaded an interrupt would be lost: vm_start() releases them. */
	bus_hold(vm->pio, 0);
	bus_hold(vm->mmio, 0);
	if (r == 0)
		r = vm_state_load_devices(vm, err);
	if (r == 0 && vm->restore->memory)
		r = restore_identity(vm, err);
	return r || !vm->restore->reset_point ? r : reset_point_at_start(vm, err);
}

static int init(struct vm *vm, struct foal_error *err)
{
	pthread_mutex_init(&vm->end.lock, NULL);
	pthread_mutex_init(&vm->routes_lock, NULL);
	stopper_init(vm);
	quiesce_init(&vm->quiesce);
	forker_init(vm);
	reset_init(vm);
	gate_init(&vm->made, 1);      /* the first vCPU's thread */
	gate_init(&vm->described, 1); /* main thread */
	gate_init(&vm->created, 1);   /* the first vCPU's thread */
	gate_init(&vm->prepared, 1);  /* main thread */
	gate_init(&vm->answered, 1);  /* foal-stop */
	gate_init(&vm->confined, 1);  /* main thread */
	gate_init(&vm->running, 1);   /* the first vCPU to run */
	gate_init(&vm->built, 1);     /* main thread */
	vm->end.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (vm->end.fd < 0)
		return error_set(err, FOAL_EXIT_HOST, -errno, "eventfd: %s", strerror(errno));
	return 0;
}

void vm_begin(struct vm *vm)
{
	struct foal_error *err = &vm->start_error; /* no thread has it yet: vm_create() */

	forget_fds(vm);
	vm->begun = true;
	if (init(vm, err) == 0 && kvm_open(&vm->kvm, err) == 0 && vm_start_first_vcpu(vm, err) == 0)
		start_stopper(vm, err);
}

struct vm *vm_begin_ahead(const struct run_options *opt)
{
	struct vm *vm = opt->background ? NULL : calloc(1, sizeof(*vm));

	if (vm)
		vm_begin(vm);
	return vm;
}

int vm_build(struct vm *vm, struct foal_error *err)
{
	int r;

	if ((r = files_open(vm, err)) || (r = prepare_sandbox(vm, err)) ||
	    (r = vm_make_vcpus(vm, err)) || (r = create_space(vm, err)) ||
	    (r = boot_declare(vm, err)) || (r = start_space(vm, err)) ||
	    (r = vm_wait_created(vm, err)) || (r = kvm_add_slots(&vm->kvm, vm->space, err)) ||
	    (r = machine_build(vm, err)))
		return r;
	return vm->restore ? restore(vm, err) : boot_write(vm, err);
}

static int restart_space(struct vm *vm, struct foal_error *err)
{
	int r = ept_space_fork_start(vm->space, vm->opt->name);

	return r ? error_set(err, FOAL_EXIT_MEMORY, r, "%s: guest memory: %s", vm->opt->name,
			     error_text(r))
		 : 0;
}

/* Disks are laid over what was written to them before. */
static void take_layers(struct vm *vm)
{
	for (unsigned i = 0; i < vm->opt->disk_count; i++) {
		virtio_blk_take_layers(vm->disks[i].device, vm->birth->layers[i]);
		vm->birth->layers[i] = NULL;
	}
}

int vm_rebuild(struct vm *vm, struct foal_error *err)
{
	int r;

	if ((r = init(vm, err)) || (r = restart_space(vm, err)) ||
	    (r = vm_start_first_vcpu(vm, err)) || (r = vm_make_vcpus(vm, err)) ||
	    (r = vm_create(vm, err)) || (r = kvm_add_slots(&vm->kvm, vm->space, err)) ||
	    (r = fork_disks_open(vm, err)) || (r = machine_build(vm, err)))
		return r;
	take_layers(vm);
	return restore(vm, err);
}

void vm_end(struct vm *vm, int status, const char *fmt, ...)
{
	struct vm_end *end = &vm->end;
	uint64_t one = 1;
	va_list args;

	pthread_mutex_lock(&end->lock);
	if (!end->decided) {
		end->decided = true;
		end->status = status;
		if (fmt) {
			va_start(args, fmt);
			vsnprintf(end->error.text, sizeof(end->error.text), fmt, args);
			va_end(args);
		}
		atomic_store(&vm->stopping, true);
		if (write(end->fd, &one, sizeof(one)) < 0)
			end->error.status = FOAL_EXIT_INTERNAL; /* an eventfd cannot be full here */
	}
	pthread_mutex_unlock(&end->lock);
}

void vm_destroy(struct vm *vm)
{
	vm_give_up(vm); /* if it was not even started */
	stopper_dismiss(vm);
	forker_end(vm);
	vm_join_vcpus(vm);
	if (vm->first_started)
		pthread_join(vm->first_vcpu, NULL);
	for (unsigned i = 0; i < vm->vcpu_count; i++) {
		if (vm->vcpus[i].run)
			munmap(vm->vcpus[i].run, vm->kvm.run_size);
		if (vm->vcpus[i].stats_fd >= 0)
			close(vm->vcpus[i].stats_fd);
		if (vm->vcpus[i].fd >= 0)
			close(vm->vcpus[i].fd);
	}
	free(vm->vcpus);
	bus_destroy(vm->pio);
	bus_destroy(vm->mmio);
	kvm_close(&vm->kvm);
	if (vm->space) {
		ept_space_stop(vm->space);
		bus_error_catch(NULL);
		ept_space_destroy(vm->space);
	}
	image_close(&vm->image);
	if (vm->hvc_out >= 0)
		close(vm->hvc_out);
	files_close(vm);
	helpers_stop(&vm->helpers);
	free(vm->routes);
	sandbox_close(&vm->sandbox);
	if (vm->end.fd >= 0)
		close(vm->end.fd);
	stopper_destroy(vm);
	reset_end(vm);
	quiesce_destroy(&vm->quiesce);
	pthread_mutex_destroy(&vm->routes_lock);
	pthread_mutex_destroy(&vm->end.lock);
}

void vm_forget(struct vm *vm, const struct run_options *opt)
{
	if (!vm)
		return;
	vm->opt = opt;
	vm_destroy(vm);
	free(vm);
}
