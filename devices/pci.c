/*
 * A PCI root with one bus. Its configuration space is reached through ports
 * (PCI 3.0, 3.2.2.3.2) and through memory (PCI Express 5.0, 7.2.2); what the
 * functions' BARs decode lies in one window, where the guest may move them.
 *
 * The three ways in are devices on the buses, so that each is looked up as any
 * other. The functions are the window's; the root goes with the last of the three.
 */
#include "devices/pci.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "devices/state.h"
#include "guest/abi.h"

#define SLOTS		  FOAL_PCI_SLOTS
#define SLOT_VERSION	  1	   /* of a slot's state */
#define CLASS_HOST_BRIDGE 0x060000 /* Appendix D */
#define ADDRESS_ENABLE	  (1u << 31)

struct pci {
	struct device window, ecam, ports;
	unsigned ways;	      /* of these that a bus still looks at */
	pthread_mutex_t lock; /* all below, and the configuration spaces */
	uint32_t address;     /* of the next access through the ports */
	struct pci_function *slot[SLOTS];
	struct pci_function bridge;
	unsigned free; /* the first slot nobody has */
};

/* --- functions ---------------------------------------------------------------------- */

uint32_t pci_get(const struct pci_function *f, unsigned offset, unsigned len)
{
	uint32_t value = 0;

	memcpy(&value, f->config + offset, len);
	return value;
}

void pci_set(struct pci_function *f, unsigned offset, unsigned len, uint32_t value)
{
	memcpy(f->config + offset, &value, len);
}

static void allow(struct pci_function *f, unsigned offset, unsigned len, uint32_t bits)
{
	memcpy(f->writable + offset, &bits, len);
}

void pci_function_init(struct pci_function *f, const struct pci_function_ops *ops, uint16_t vendor,
		       uint16_t device, uint32_t class, uint32_t bar_size)
{
	f->ops = ops;
	f->bar_size = bar_size;
	f->cap_end = PCI_STD_HEADER_SIZEOF;
	pci_set(f, PCI_VENDOR_ID, 2, vendor);
	pci_set(f, PCI_DEVICE_ID, 2, device);
	pci_set(f, PCI_REVISION_ID, 1, 1);
	pci_set(f, PCI_CLASS_PROG, 3, class);
	allow(f, PCI_CACHE_LINE_SIZE, 1, UINT8_MAX);
	allow(f, PCI_INTERRUPT_LINE, 1, UINT8_MAX);
	if (bar_size) {
		/* The bits below the size read as 0: so its size is found out (6.2.5.1). */
		allow(f, PCI_BASE_ADDRESS_0, 4, ~(bar_size - 1));
		allow(f, PCI_COMMAND, 2,
		      PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE);
	}
}

unsigned pci_add_capability(struct pci_function *f, uint8_t id, const void *body, unsigned len)
{
	unsigned at = f->cap_end;
	unsigned link = f->last_cap ? f->last_cap + PCI_CAP_LIST_NEXT : PCI_CAPABILITY_LIST;

	pci_set(f, PCI_STATUS, 2, PCI_STATUS_CAP_LIST);
	pci_set(f, link, 1, at);
	pci_set(f, at + PCI_CAP_LIST_ID, 1, id);
	memcpy(f->config + at + PCI_CAP_LINK_SIZE, body, len - PCI_CAP_LINK_SIZE);
	f->last_cap = at;
	f->cap_end = (at + len + 3) & ~3u;
	return at;
}

int pci_add(struct pci *pci, struct pci_function *f)
{
	if (pci->free == SLOTS) {
		if (f->ops->destroy)
			f->ops->destroy(f);
		return -ENOSPC;
	}
	f->slot = pci->free++;
	pci->slot[f->slot] = f;
	/* As firmware would have done; the guest may do it again. */
	if (f->bar_size) {
		pci_set(f, PCI_BASE_ADDRESS_0, 4, FOAL_PCI_WINDOW + f->slot * FOAL_PCI_BAR_STRIDE);
		pci_set(f, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	}
	return 0;
}

/* --- the configuration space -------------------------------------------------------- */

/* @offset counts from the bus's: 4 KiB a function, as in memory. Lock held. */
static struct pci_function *config_at(struct pci *pci, uint64_t offset)
{
	unsigned slot = (unsigned)(offset >> 15), function = offset >> 12 & 7;

	return function == 0 && slot < SLOTS ? pci->slot[slot] : NULL;
}

/* Naturally aligned, so an access is one function's. Nobody there: all ones. */
static uint64_t config_read(struct pci *pci, uint64_t offset, unsigned len)
{
	uint64_t value = UINT64_MAX;

	pthread_mutex_lock(&pci->lock);
	struct pci_function *f = config_at(pci, offset);
	unsigned at = offset & 0xfff;
	if (f && len <= 4 && at % len == 0) {
		/* Conventional functions have no extended space. */
		value = 0;
		if (at < PCI_CONFIG_SIZE) {
			if (f->ops->config_reading)
				f->ops->config_reading(f, at, len);
			value = pci_get(f, at, len);
		}
	}
	pthread_mutex_unlock(&pci->lock);
	return value;
}

static void config_write(struct pci *pci, uint64_t offset, unsigned len, uint64_t value)
{
	pthread_mutex_lock(&pci->lock);
	struct pci_function *f = config_at(pci, offset);
	unsigned at = offset & 0xfff;
	if (f && len <= 4 && at % len == 0 && at < PCI_CONFIG_SIZE) {
		for (unsigned i = 0; i < len; i++) {
			uint8_t mask = f->writable[at + i], byte = (uint8_t)(value >> (8 * i));
			f->config[at + i] = (f->config[at + i] & ~mask) | (byte & mask);
		}
		if (f->ops->config_written)
			f->ops->config_written(f, at, len);
	}
	pthread_mutex_unlock(&pci->lock);
}

/* A bus frees its devices one after the other, in whatever order: the last takes the root along. */
static void leave(struct pci *pci)
{
	if (--pci->ways)
		return;
	pthread_mutex_destroy(&pci->lock);
	free(pci);
}

/* --- through ports ------------------------------------------------------------------ */

static struct pci *pci_of_ports(struct device *dev)
{
	return device_of(dev, struct pci, ports);
}

/*
 * Where the address register points, in the memory form: bus 16..23, slot
 * 11..15, function 8..10. UINT64_MAX: nowhere.
 */
static uint64_t port_target(struct pci *pci, uint64_t offset)
{
	pthread_mutex_lock(&pci->lock);
	uint32_t address = pci->address;
	pthread_mutex_unlock(&pci->lock);
	if (!(address & ADDRESS_ENABLE) || (address >> 16 & 0xff) != 0)
		return UINT64_MAX;
	return (uint64_t)(address >> 8 & 0xff) << 12 | (address & 0xfc) | (offset & 3);
}

/* Port 0xcf9 lies among these; what it does is reset_port.c's, which looks at the host alone. */
static bool is_reset_port(uint64_t offset, unsigned len)
{
	return offset == FOAL_PORT_RESET - FOAL_PORT_PCI && len == 1;
}

static uint64_t ports_read(struct device *dev, uint64_t offset, unsigned len)
{
	struct pci *pci = pci_of_ports(dev);
	uint64_t value = UINT64_MAX;

	if (is_reset_port(offset, len))
		return reset_port_device.read(dev, 0, len);
	if (offset >= 4)
		return config_read(pci, port_target(pci, offset), len);
	pthread_mutex_lock(&pci->lock);
	if (offset == 0 && len == 4)
		value = pci->address;
	pthread_mutex_unlock(&pci->lock);
	return value;
}

static void ports_write(struct device *dev, uint64_t offset, unsigned len, uint64_t value)
{
	struct pci *pci = pci_of_ports(dev);

	if (offset >= 4) {
		config_write(pci, port_target(pci, offset), len, value);
		return;
	}
	if (is_reset_port(offset, len))
		reset_port_device.write(dev, 0, len, value);
	/* Narrower writes are no business of this register. */
	if (offset != 0 || len != 4)
		return;
	pthread_mutex_lock(&pci->lock);
	pci->address = (uint32_t)value;
	pthread_mutex_unlock(&pci->lock);
}

static void ports_destroy(struct device *dev)
{
	leave(pci_of_ports(dev));
}

const struct device_ops pci_ports_device = {
    .kind = "pci-ports",
    .read = ports_read,
    .write = ports_write,
    .destroy = ports_destroy,
};

/* --- through memory ----------------------------------------------------------------- */

static uint64_t ecam_read(struct device *dev, uint64_t offset, unsigned len)
{
	return config_read(device_of(dev, struct pci, ecam), offset, len);
}

static void ecam_write(struct device *dev, uint64_t offset, unsigned len, uint64_t value)
{
	config_write(device_of(dev, struct pci, ecam), offset, len, value);
}

static void ecam_destroy(struct device *dev)
{
	leave(device_of(dev, struct pci, ecam));
}

const struct device_ops pci_ecam_device = {
    .kind = "pci-ecam",
    .read = ecam_read,
    .write = ecam_write,
    .destroy = ecam_destroy,
};

/* --- the window of the BARs ----------------------------------------------------------- */

static struct pci *pci_of_window(struct device *dev)
{
	return device_of(dev, struct pci, window);
}

/* Who decodes @len bytes at @addr, and where in its BAR that is. Two that overlap: the first. */
static struct pci_function *decode(struct pci *pci, uint64_t addr, unsigned len, uint32_t *offset)
{
	struct pci_function *found = NULL;

	if (addr % len)
		return NULL;
	pthread_mutex_lock(&pci->lock);
	for (unsigned i = 0; i < pci->free && !found; i++) {
		struct pci_function *f = pci->slot[i];
		uint32_t base = pci_get(f, PCI_BASE_ADDRESS_0, 4);
		if (f->bar_size && pci_get(f, PCI_COMMAND, 2) & PCI_COMMAND_MEMORY &&
		    addr >= base && addr - base < f->bar_size) {
			*offset = (uint32_t)(addr - base);
			found = f;
		}
	}
	pthread_mutex_unlock(&pci->lock);
	return found;
}

static uint64_t window_read(struct device *dev, uint64_t offset, unsigned len)
{
	uint32_t at;
	struct pci_function *f = decode(pci_of_window(dev), FOAL_PCI_WINDOW + offset, len, &at);

	return f ? f->ops->read(f, at, len) : UINT64_MAX;
}

static void window_write(struct device *dev, uint64_t offset, unsigned len, uint64_t value)
{
	uint32_t at;
	struct pci_function *f = decode(pci_of_window(dev), FOAL_PCI_WINDOW + offset, len, &at);

	if (f)
		f->ops->write(f, at, len, value);
}

static int window_start(struct device *dev, uint64_t base)
{
	struct pci *pci = pci_of_window(dev);
	int rc = 0;

	(void)base;
	for (unsigned i = 0; i < pci->free && rc == 0; i++)
		rc = pci->slot[i]->ops->start ? pci->slot[i]->ops->start(pci->slot[i]) : 0;
	return rc;
}

/* As bus_hold(), which calls this twice. */
static struct device *window_hold(struct device *dev, uint64_t deadline)
{
	struct pci *pci = pci_of_window(dev);
	struct device *busy = NULL;

	for (unsigned i = 0; i < pci->free; i++) {
		struct pci_function *f = pci->slot[i];
		struct device *left = f->ops->hold ? f->ops->hold(f, deadline) : NULL;

		busy = busy ? busy : left;
	}
	return busy;
}

static void window_release(struct device *dev)
{
	struct pci *pci = pci_of_window(dev);

	for (unsigned i = 0; i < pci->free; i++)
		if (pci->slot[i]->ops->release)
			pci->slot[i]->ops->release(pci->slot[i]);
}

static void window_forked(struct device *dev)
{
	struct pci *pci = pci_of_window(dev);

	for (unsigned i = 0; i < pci->free; i++)
		if (pci->slot[i]->ops->forked)
			pci->slot[i]->ops->forked(pci->slot[i]);
}

static void window_stop(struct device *dev)
{
	struct pci *pci = pci_of_window(dev);

	for (unsigned i = 0; i < pci->free; i++)
		if (pci->slot[i]->ops->stop)
			pci->slot[i]->ops->stop(pci->slot[i]);
}

static void window_destroy(struct device *dev)
{
	struct pci *pci = pci_of_window(dev);

	for (unsigned i = 0; i < pci->free; i++)
		if (pci->slot[i]->ops->destroy)
			pci->slot[i]->ops->destroy(pci->slot[i]);
	leave(pci);
}

/* What a guest cannot write is the machine's that loads, and has to be the same. */
static void config_state(struct pci_function *f, struct state *s)
{
	for (unsigned i = 0; i < PCI_CONFIG_SIZE; i++) {
		uint8_t byte = f->config[i];

		state_u8(s, &byte);
		if (!state_check(s, !((byte ^ f->config[i]) & ~f->writable[i]),
				 "it was another device: its configuration space differs"))
			return;
		f->config[i] = byte;
	}
}

static bool slot_state(struct pci *pci, unsigned slot, struct state *s)
{
	struct pci_function *f = pci->slot[slot];

	if (!state_begin(s, "pci-slot", slot, SLOT_VERSION))
		return false;
	config_state(f, s);
	if (state_ok(s) && f->ops->state)
		f->ops->state(f, s);
	return state_end(s);
}

static bool window_state(struct device *dev, struct state *s)
{
	struct pci *pci = pci_of_window(dev);

	pthread_mutex_lock(&pci->lock);
	state_u32(s, &pci->address);
	state_fixed(s, pci->free, "the number of devices");
	for (unsigned i = 0; i < pci->free && state_ok(s); i++)
		slot_state(pci, i, s);
	pthread_mutex_unlock(&pci->lock);
	return state_ok(s);
}

/* One record tells of all that is behind it: whoever of them may, it does. */
static bool window_remembers(const struct device *dev)
{
	return device_of(dev, const struct pci, window)->free > 1;
}

const struct device_ops pci_device = {
    .kind = "pci",
    .read = window_read,
    .write = window_write,
    .start = window_start,
    .hold = window_hold,
    .release = window_release,
    .forked = window_forked,
    .stop = window_stop,
    .destroy = window_destroy,
    .state = window_state,
    .state_version = 1,
    .remembers = window_remembers,
};

/* --- creation ------------------------------------------------------------------------- */

/* The bridge itself: what a host bus is to its bus, a header and nothing behind it. */
static const struct pci_function_ops bridge_ops = {0};

/* The bus frees @way, also when it does not take it. */
static int add_way(struct pci *pci, struct bus *bus, struct device *way, uint64_t base,
		   uint64_t size)
{
	pci->ways++;
	return bus_attach(bus, way, base, size);
}

int pci_create(const struct device_host *host, struct bus *pio, struct bus *mmio, struct pci **out)
{
	struct pci *pci = calloc(1, sizeof(*pci));
	int rc;

	if (!pci)
		return -ENOMEM;
	device_init(&pci->window, &pci_device, host);
	device_init(&pci->ecam, &pci_ecam_device, host);
	device_init(&pci->ports, &pci_ports_device, host);
	pthread_mutex_init(&pci->lock, NULL);
	pci_function_init(&pci->bridge, &bridge_ops, FOAL_PCI_BRIDGE_VENDOR, FOAL_PCI_BRIDGE_DEVICE,
			  CLASS_HOST_BRIDGE, 0);
	pci_add(pci, &pci->bridge); /* the first slot is free */
	pci->ways = 1;		    /* ours, until it stands */
	rc = add_way(pci, mmio, &pci->window, FOAL_PCI_WINDOW, FOAL_PCI_WINDOW_SIZE);
	if (rc == 0)
		rc = add_way(pci, mmio, &pci->ecam, FOAL_PCI_ECAM, FOAL_PCI_ECAM_SIZE);
	if (rc == 0)
		rc = add_way(pci, pio, &pci->ports, FOAL_PORT_PCI, FOAL_PORT_PCI_LEN);
	if (rc == 0)
		*out = pci;
	leave(pci);
	return rc;
}
