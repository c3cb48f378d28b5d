/* The buses, what is on them, and how their interrupts reach the local APICs. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#include "vmm/boot.h"
#include "vmm/console.h"
#include "vmm/vm.h"

#define IOAPIC_MMIO_SIZE 0x100
#define MSI_DATA_LEVEL	 (1u << 15) /* SDM 3A 11.11.2 */

static void host_set_pin(void *ctx, unsigned pin, bool level)
{
	struct vm *vm = ctx;

	ioapic_set_pin(vm->ioapic, pin, level);
}

static void host_send_msi(void *ctx, uint64_t addr, uint32_t data)
{
	struct vm *vm = ctx;
	int r = kvm_send_msi(&vm->kvm, addr, data);

	/*
	 * 0: no local APIC took it, as on a bus nobody listens to. KVM's -1 for "no
	 * such destination" comes out as EPERM. Both are the guest's doing.
	 */
	if (r < 0 && r != -EINVAL && r != -EPERM)
		vm_end(vm, FOAL_EXIT_INTERNAL, "%s: interrupt 0x%x to 0x%llx: %s", vm->opt->name,
		       data, (unsigned long long)addr, strerror(-r));
}

/*
 * KVM needs a pin's route only to know which vectors are level-triggered, so
 * that it reports their end of interrupt; edge interrupts go out as plain MSIs.
 * A masked pin keeps its route: its handler may mask it before the end of
 * interrupt, which has to be heard all the same.
 */
static void host_route_pin(void *ctx, unsigned pin, uint64_t addr, uint32_t data, bool masked)
{
	struct vm *vm = ctx;

	(void)masked;
	if (pin >= FOAL_IOAPIC_PINS)
		return;
	pthread_mutex_lock(&vm->routes_lock);
	struct kvm_irq_routing_entry *e = &vm->routes->entries[pin];
	const struct kvm_irq_routing_msi was = e->u.msi, *is = &e->u.msi;
	bool first = e->type != KVM_IRQ_ROUTING_MSI;

	*e = (struct kvm_irq_routing_entry){.gsi = pin, .type = KVM_IRQ_ROUTING_MSI};
	if (data & MSI_DATA_LEVEL) {
		addr = kvm_msi_address(&vm->kvm, addr);
		e->u.msi.address_lo = (uint32_t)addr;
		e->u.msi.address_hi = (uint32_t)(addr >> 32);
		e->u.msi.data = data;
	}
	if ((first || was.address_lo != is->address_lo || was.address_hi != is->address_hi ||
	     was.data != is->data) &&
	    ioctl(vm->kvm.vm_fd, KVM_SET_GSI_ROUTING, vm->routes))
		vm_end(vm, FOAL_EXIT_INTERNAL, "%s: route of interrupt pin %u: %s", vm->opt->name,
		       pin, strerror(errno));
	pthread_mutex_unlock(&vm->routes_lock);
}

/*
 * With length 0 any width rings, and on VMX the instruction need not even be
 * decoded (KVM_CAP_IOEVENTFD_ANY_LENGTH, Linux 4.3).
 */
static int host_doorbell(void *ctx, uint64_t addr, int fd, bool on)
{
	struct vm *vm = ctx;
	struct kvm_ioeventfd bell = {
	    .addr = addr, .fd = fd, .flags = on ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN};

	return ioctl(vm->kvm.vm_fd, KVM_IOEVENTFD, &bell) ? -errno : 0;
}

static void host_thread_expected(void *ctx)
{
	vm_thread_expected(ctx);
}

static void host_thread_begins(void *ctx, const char *kind)
{
	(void)kind;
	vm_thread_begins(ctx, THREAD_DEVICE);
}

static void host_console(void *ctx, const void *data, size_t len)
{
	struct vm *vm = ctx;

	control_console(vm->control, data, len);
}

static void host_guest_exit(void *ctx, int status)
{
	vm_end(ctx, status < FOAL_EXIT_RESERVED ? status : FOAL_EXIT_RESERVED - 1, NULL);
}

static void host_guest_ready(void *ctx)
{
	struct vm *vm = ctx;

	debt_ready(&vm->debt, vm->space);
}

static void host_guest_reset(void *ctx)
{
	struct vm *vm = ctx;

	vm_end(vm, FOAL_EXIT_RESET, "%s: the guest reset itself; start it again if it should go on",
	       vm->opt->name);
}

static void host_reset_bell(void *ctx, uint8_t what)
{
	reset_bell(ctx, what);
}

static uint32_t host_resets(void *ctx)
{
	return reset_count(ctx);
}

static uint64_t wall_clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static int no_device(struct foal_error *err, const char *what, int r)
{
	return error_set(err, FOAL_EXIT_HOST, r, "device %s: %s", what, strerror(-r));
}

static int build_irqs(struct vm *vm, struct foal_error *err)
{
	vm->routes = calloc(1, sizeof(*vm->routes) +
				   FOAL_IOAPIC_PINS * sizeof(struct kvm_irq_routing_entry));
	if (!vm->routes)
		return no_device(err, "ioapic", -ENOMEM);
	vm->routes->nr = FOAL_IOAPIC_PINS;
	for (unsigned pin = 0; pin < FOAL_IOAPIC_PINS; pin++)
		vm->routes->entries[pin] =
		    (struct kvm_irq_routing_entry){.gsi = pin, .type = KVM_IRQ_ROUTING_MSI};
	int r = ioapic_create(&vm->host, &vm->ioapic);
	if (r == 0)
		r = bus_attach(vm->mmio, vm->ioapic, FOAL_IOAPIC_BASE, IOAPIC_MMIO_SIZE);
	return r ? no_device(err, "ioapic", r) : 0;
}

static int build_ports(struct vm *vm, struct foal_error *err)
{
	struct device *exit_port, *ready_port, *bell;
	int r = serial_create(&vm->host, FOAL_PIN_COM1, vm->console_out, &vm->serial);

	if (r == 0)
		r = bus_attach(vm->pio, vm->serial, FOAL_PORT_COM1, FOAL_PORT_COM1_LEN);
	if (r)
		return no_device(err, "serial", r);
	r = exit_port_create(&vm->host, &exit_port);
	if (r == 0)
		r = bus_attach(vm->pio, exit_port, FOAL_PORT_EXIT, 1);
	if (r == 0 && (r = ready_port_create(&vm->host, &ready_port)) == 0)
		r = bus_attach(vm->pio, ready_port, FOAL_PORT_READY, 1);
	if (r == 0 && vm->opt->reset_port && (r = reset_bell_create(&vm->host, &bell)) == 0)
		r = bus_attach(vm->pio, bell, FOAL_PORT_RESET_BELL, FOAL_PORT_RESET_BELL_LEN);
	return r ? no_device(err, "port", r) : 0;
}

/* What a stock kernel wants besides; the ACPI tables tell of it. */
static int build_platform(struct vm *vm, struct foal_error *err)
{
	struct rtc_config clock = {.low_memory = boot_low_end(vm),
				   .high_memory = boot_high_size(vm),
				   .cpus = vm->opt->cpus,
				   .now = wall_clock_ns};
	struct device *rtc, *i8042, *reset_port;
	int r = acpi_pm_create(&vm->host, &vm->acpi_pm);

	if (r == 0)
		r = bus_attach(vm->pio, vm->acpi_pm, FOAL_PORT_ACPI, FOAL_PORT_ACPI_LEN);
	if (r == 0 && !(vm->restore && vm->restore->memory)) /* restore_identity() */
		r = vmgenid_renew(&vm->host, NULL);
	if (r)
		return no_device(err, "ACPI", r);
	r = rtc_create(&vm->host, &clock, &rtc);
	if (r == 0)
		r = bus_attach(vm->pio, rtc, FOAL_PORT_RTC, FOAL_PORT_RTC_LEN);
	if (r)
		return no_device(err, "rtc", r);
	r = i8042_create(&vm->host, &i8042);
	if (r == 0)
		r = bus_attach(vm->pio, i8042, FOAL_PORT_I8042, 1);
	if (r == 0 && !vm->opt->pci && (r = reset_port_create(&vm->host, &reset_port)) == 0)
		r = bus_attach(vm->pio, reset_port, FOAL_PORT_RESET, 1);
	return r ? no_device(err, "reset", r) : 0;
}

static unsigned next_pin(const struct vm *vm)
{
	return FOAL_VIRTIO_MMIO_PIN + vm->virtio_count;
}

/* @r is what creating @dev gave: put it where the guest finds it, or say that @what failed. */
static int add_virtio(struct vm *vm, int r, struct device *dev, const char *what,
		      struct foal_error *err)
{
	uint64_t base = FOAL_VIRTIO_MMIO_BASE + vm->virtio_count * FOAL_VIRTIO_MMIO_STRIDE;

	if (r >= 0) {
		vm->virtio_count++;
		r = vm->pci ? pci_add_virtio(vm->pci, dev)
			    : bus_attach(vm->mmio, dev, base, FOAL_VIRTIO_MMIO_SIZE);
	}
	return r < 0 ? no_device(err, what, r) : 0;
}

static int build_pci(struct vm *vm, struct foal_error *err)
{
	int r = vm->opt->pci ? pci_create(&vm->host, vm->pio, vm->mmio, &vm->pci) : 0;

	return r ? no_device(err, "pci", r) : 0;
}

static int create_disk(struct vm *vm, struct vm_file *f)
{
	struct disk_backend *backend = f->backend;

	if (!backend)
		return virtio_blk_create(&vm->host, next_pin(vm), f->fd, f->option->path,
					 f->option->mode, &f->device);
	f->backend = NULL;
	return virtio_blk_create_on(&vm->host, next_pin(vm), backend, f->option->path,
				    f->option->mode, &f->device);
}

static int build_files(struct vm *vm, struct foal_error *err)
{
	int r = 0;

	for (unsigned i = 0; i < vm->opt->disk_count && r == 0; i++) {
		struct vm_file *f = &vm->disks[i];
		r = create_disk(vm, f);
		r = add_virtio(vm, r, f->device, f->option->path, err);
	}
	for (unsigned i = 0; i < vm->opt->pmem_count && r == 0; i++) {
		struct vm_file *f = &vm->pmems[i];
		r = virtio_pmem_create(&vm->host, next_pin(vm), f->area, &f->device);
		r = add_virtio(vm, r, f->device, f->option->path, err);
	}
	return r;
}

static int build_nets(struct vm *vm, struct foal_error *err)
{
	int r = 0;

	for (unsigned i = 0; i < vm->opt->net_count && r == 0; i++) {
		struct vm_net *net = &vm->nets[i];
		r = virtio_net_create(&vm->host, next_pin(vm), &net->config, &net->device);
		r = add_virtio(vm, r, net->device, "net", err);
		/* The device has its own: a helper sees the end when that is closed. */
		net_close(net);
	}
	return r;
}

static int build_vsock(struct vm *vm, struct foal_error *err)
{
	struct vm_vsock *vsock = &vm->vsock;
	int r;

	if (!vm->opt->vsock.path)
		return 0;
	r = virtio_vsock_create(&vm->host, next_pin(vm), vm->opt->vsock.cid, vsock->listener,
				vsock->connector, &vsock->device);
	r = add_virtio(vm, r, vsock->device, "vsock", err);
	/* The device has its own: the connector sees the end when that is closed. */
	vsock_close(vsock);
	return r;
}

static int build_balloon(struct vm *vm, struct foal_error *err)
{
	const struct run_options *opt = vm->opt;
	uint64_t size = opt->balloon_target ? opt->memory - opt->balloon_target : 0;
	int r;

	if (!opt->balloon)
		return 0;
	r = virtio_balloon_create(&vm->host, next_pin(vm), size, &vm->balloon);
	return add_virtio(vm, r, vm->balloon, "balloon", err);
}

static int build_console(struct vm *vm, struct foal_error *err)
{
	uint16_t cols, rows;
	bool shown = vm->console_out >= 0;
	int r = 0;

	if (shown)
		r = vm->hvc_out = console_output(vm->console_out);
	console_size(vm->console_out, &cols, &rows);
	if (r >= 0)
		r = virtio_console_create(&vm->host, next_pin(vm), vm->hvc_out, cols, rows,
					  &vm->hvc);
	r = add_virtio(vm, r, vm->hvc, "console", err);
	if (r)
		vm->hvc = NULL;
	return r;
}

static int build_rng(struct vm *vm, struct foal_error *err)
{
	struct device *rng = NULL;
	int r = virtio_rng_create(&vm->host, next_pin(vm), &rng);

	return add_virtio(vm, r, rng, "rng", err);
}

int machine_build(struct vm *vm, struct foal_error *err)
{
	vm->host = (struct device_host){
	    .ctx = vm,
	    .vm_name = vm->opt->name,
	    .memory = vm->space,
	    .set_pin = host_set_pin,
	    .send_msi = host_send_msi,
	    .route_pin = host_route_pin,
	    .doorbell = host_doorbell,
	    .thread_expected = host_thread_expected,
	    .thread_begins = host_thread_begins,
	    .console = host_console,
	    .guest_exit = host_guest_exit,
	    .guest_ready = host_guest_ready,
	    .guest_reset = host_guest_reset,
	    .reset_bell = host_reset_bell,
	    .resets = host_resets,
	};
	vm->pio = bus_create();
	vm->mmio = bus_create();
	if (!vm->pio || !vm->mmio)
		return no_device(err, "bus", -ENOMEM);
	int r = build_irqs(vm, err);
	if (r == 0)
		r = build_ports(vm, err);
	if (r == 0)
		r = build_platform(vm, err);
	if (r == 0)
		r = build_pci(vm, err);
	if (r == 0)
		r = build_files(vm, err);
	if (r == 0)
		r = build_nets(vm, err);
	if (r == 0)
		r = build_vsock(vm, err);
	if (r == 0)
		r = build_balloon(vm, err);
	if (r == 0 && vm->opt->virtio_console)
		r = build_console(vm, err);
	if (r == 0 && vm->opt->rng)
		r = build_rng(vm, err);
	return r;
}
