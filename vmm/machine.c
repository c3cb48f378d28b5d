/* The buses, what is on them, and how their interrupts reach the local APICs. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

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
	bool was_level = e->u.msi.data & MSI_DATA_LEVEL;
	bool is_level = data & MSI_DATA_LEVEL;
	*e = (struct kvm_irq_routing_entry){.gsi = pin, .type = KVM_IRQ_ROUTING_MSI};
	if (is_level) {
		e->u.msi.address_lo = (uint32_t)addr;
		e->u.msi.address_hi = (uint32_t)(addr >> 32);
		e->u.msi.data = data;
	}
	if ((was_level || is_level) && ioctl(vm->kvm.vm_fd, KVM_SET_GSI_ROUTING, vm->routes))
		vm_end(vm, FOAL_EXIT_INTERNAL, "%s: route of interrupt pin %u: %s", vm->opt->name,
		       pin, strerror(errno));
	pthread_mutex_unlock(&vm->routes_lock);
}

static void host_guest_exit(void *ctx, int status)
{
	vm_end(ctx, status < FOAL_EXIT_RESERVED ? status : FOAL_EXIT_RESERVED - 1, NULL);
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
	struct device *exit_port;
	int r = serial_create(&vm->host, FOAL_PIN_COM1, vm->console_out, &vm->serial);

	if (r == 0)
		r = bus_attach(vm->pio, vm->serial, FOAL_PORT_COM1, FOAL_PORT_COM1_LEN);
	if (r)
		return no_device(err, "serial", r);
	r = exit_port_create(&vm->host, &exit_port);
	if (r == 0)
		r = bus_attach(vm->pio, exit_port, FOAL_PORT_EXIT, 1);
	return r ? no_device(err, "exit port", r) : 0;
}

static unsigned next_pin(const struct vm *vm)
{
	return FOAL_VIRTIO_MMIO_PIN + vm->virtio_count;
}

static int attach_virtio(struct vm *vm, struct device *dev)
{
	uint64_t base = FOAL_VIRTIO_MMIO_BASE + vm->virtio_count * FOAL_VIRTIO_MMIO_STRIDE;

	vm->virtio_count++;
	return bus_attach(vm->mmio, dev, base, FOAL_VIRTIO_MMIO_SIZE);
}

static int build_files(struct vm *vm, struct foal_error *err)
{
	int r = 0;

	for (unsigned i = 0; i < vm->opt->disk_count && r == 0; i++) {
		struct vm_file *f = &vm->disks[i];
		r = virtio_blk_create(&vm->host, next_pin(vm), f->fd, f->option->path,
				      f->option->mode, &f->device);
		if (r == 0)
			r = attach_virtio(vm, f->device);
		if (r)
			return no_device(err, f->option->path, r);
	}
	for (unsigned i = 0; i < vm->opt->pmem_count && r == 0; i++) {
		struct vm_file *f = &vm->pmems[i];
		r = virtio_pmem_create(&vm->host, next_pin(vm), f->area, &f->device);
		if (r == 0)
			r = attach_virtio(vm, f->device);
		if (r)
			return no_device(err, f->option->path, r);
	}
	return 0;
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
	    .guest_exit = host_guest_exit,
	};
	vm->pio = bus_create();
	vm->mmio = bus_create();
	if (!vm->pio || !vm->mmio)
		return no_device(err, "bus", -ENOMEM);
	int r = build_irqs(vm, err);
	if (r == 0)
		r = build_ports(vm, err);
	if (r == 0)
		r = build_files(vm, err);
	return r;
}
