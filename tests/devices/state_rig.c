#include "tests/devices/state_rig.h"

#include <linux/virtio_mmio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "devices/fw_cfg.h"
#include "guest/abi.h"
#include "tests/devices/fuzz_host.h"

#define MEMORY	    (1UL << 20)
#define BASE	    FOAL_VIRTIO_MMIO_BASE
#define PAST_HEADER 16 /* where the length ends */

static void set_pin(void *ctx, unsigned pin, bool level)
{
	(void)ctx, (void)pin, (void)level;
}

static void send_msi(void *ctx, uint64_t addr, uint32_t data)
{
	(void)ctx, (void)addr, (void)data;
}

static void route_pin(void *ctx, unsigned pin, uint64_t addr, uint32_t data, bool masked)
{
	(void)ctx, (void)pin, (void)addr, (void)data, (void)masked;
}

static void guest_exit(void *ctx, int status)
{
	(void)ctx, (void)status;
}

static void guest_reset(void *ctx)
{
	(void)ctx;
}

static uint64_t now(void)
{
	return 1700000000000000000u;
}

static int create_rtc(const struct device_host *host, struct device **out)
{
	struct rtc_config config = {.low_memory = 1 << 20, .cpus = 1, .now = now};

	return rtc_create(host, &config, out);
}

static int create_fw_cfg(const struct device_host *host, struct device **out)
{
	int r = fw_cfg_create(host, out);

	return r ? r : fw_cfg_add(*out, FW_CFG_KERNEL_DATA, "kernel", 6);
}

static int create_serial(const struct device_host *host, struct device **out)
{
	return serial_create(host, FOAL_PIN_COM1, -1, out);
}

static int (*const others[])(const struct device_host *host, struct device **out) = {
    ioapic_create, create_serial,    acpi_pm_create,	create_rtc,
    create_fw_cfg, exit_port_create, ready_port_create,
};

/* The last kind: everything behind PCI. */
static int create_pci(struct state_machine *m)
{
	struct pci *pci;
	int r = pci_create(&m->host, m->bus, m->bus, &pci);

	for (unsigned i = 0; i < 2 && r == 0; i++) {
		struct device *dev;

		r = i ? virtio_rng_create(&m->host, FOAL_VIRTIO_MMIO_PIN + i, &dev)
		      : virtio_pmem_create(&m->host, FOAL_VIRTIO_MMIO_PIN + i, &m->area, &dev);
		if (r == 0)
			r = pci_add_virtio(pci, dev);
	}
	return r;
}

void state_machine_init(struct state_machine *m, unsigned kind)
{
	struct device *dev = NULL;
	int r = 0;

	*m = (struct state_machine){.kind = kind};
	m->memory = fake_space(MEMORY);
	m->area = (struct ept_area){.info = {.gpa = GPA(1UL << 32), .size = 1 << 20}};
	m->bus = bus_create();
	m->host = (struct device_host){.vm_name = "state",
				       .memory = m->memory,
				       .set_pin = set_pin,
				       .send_msi = send_msi,
				       .route_pin = route_pin,
				       .guest_exit = guest_exit,
				       .guest_reset = guest_reset};
	if (kind < STATE_VIRTIO_KINDS)
		r = fuzz_host_device(&m->host, (uint8_t)kind, &m->area, &dev);
	else if (kind < STATE_KINDS - 1)
		r = others[kind - STATE_VIRTIO_KINDS](&m->host, &dev);
	else
		r = create_pci(m);
	if (r == 0 && dev)
		r = bus_attach(m->bus, dev, BASE, FOAL_VIRTIO_MMIO_SIZE);
	if (r)
		abort();
}

void state_machine_fini(struct state_machine *m)
{
	bus_destroy(m->bus);
	if (m->kind < STATE_VIRTIO_KINDS)
		fuzz_host_end();
	fake_space_free(m->memory);
}

static void use(struct bus *bus, uint64_t base, uint64_t size)
{
	uint64_t value;

	for (uint64_t at = 0; at < size; at += 4) {
		bus_read(bus, base + at, &value, 4);
		bus_read(bus, base + at, &value, 1);
		bus_write(bus, base + at, &value, 4);
	}
}

void state_machine_use(struct state_machine *m)
{
	uint32_t queue = 0;

	if (m->kind == STATE_KINDS - 1) {
		for (unsigned slot = 0; slot < 3; slot++) {
			use(m->bus, FOAL_PCI_ECAM + (slot << 15), 256);
			use(m->bus, FOAL_PCI_WINDOW + slot * FOAL_PCI_BAR_STRIDE, 0x6000);
		}
		return;
	}
	if (m->kind < STATE_VIRTIO_KINDS)
		bus_write(m->bus, BASE + VIRTIO_MMIO_QUEUE_NOTIFY, &queue, 4);
	use(m->bus, BASE, FOAL_VIRTIO_MMIO_SIZE);
}

void state_seal(unsigned char *bytes, size_t len)
{
	uint64_t total = len;
	XXH128_canonical_t sum;

	if (len < PAST_HEADER + sizeof(total) + sizeof(sum))
		return;
	memcpy(bytes + PAST_HEADER, &total, sizeof(total));
	XXH128_canonicalFromHash(&sum, XXH3_128bits(bytes, len - sizeof(sum)));
	memcpy(bytes + len - sizeof(sum), &sum, sizeof(sum));
}
