#include "tests/devices/pci_rig.h"

#include <linux/pci_regs.h>
#include <linux/virtio_pci.h>
#include <string.h>
#include <time.h>

struct rig pci_rig;
struct bus *pci_ports;
struct ept_area pci_area;
uint64_t pci_bar;
struct doorbell doorbell;

static int host_doorbell(void *ctx, uint64_t addr, int fd, bool on)
{
	(void)ctx;
	ck_assert_int_ge(fd, 0);
	doorbell.calls++;
	if (on && doorbell.error)
		return doorbell.error;
	/* One at a time, and none that is not there is taken away. */
	ck_assert_uint_eq(doorbell.at, on ? 0 : addr);
	doorbell.at = on ? addr : 0;
	return 0;
}

uint64_t fn_get(uint64_t addr, unsigned len)
{
	uint64_t value = 0;

	bus_read(pci_rig.bus, addr, &value, len);
	return value;
}

void fn_set(uint64_t addr, unsigned len, uint64_t value)
{
	bus_write(pci_rig.bus, addr, &value, len);
}

unsigned fn_capability(uint8_t id, uint8_t type)
{
	unsigned at = (unsigned)fn_get(CONFIG + PCI_CAPABILITY_LIST, 1);

	for (int hops = 0; at && hops < 48; hops++) {
		if (fn_get(CONFIG + at, 1) == id &&
		    (id != PCI_CAP_ID_VNDR ||
		     fn_get(CONFIG + at + VIRTIO_PCI_CAP_CFG_TYPE, 1) == type))
			return at;
		at = (unsigned)fn_get(CONFIG + at + PCI_CAP_LIST_NEXT, 1);
	}
	return 0;
}

uint64_t fn_structure(uint8_t type)
{
	unsigned cap = fn_capability(PCI_CAP_ID_VNDR, type);

	ck_assert_uint_ne(cap, 0);
	ck_assert_uint_eq(fn_get(CONFIG + cap + VIRTIO_PCI_CAP_BAR, 1), 0);
	return pci_bar + fn_get(CONFIG + cap + VIRTIO_PCI_CAP_OFFSET, 4);
}

uint64_t fn_common(unsigned field)
{
	return fn_structure(VIRTIO_PCI_CAP_COMMON_CFG) + field;
}

void fn_set_vector(unsigned vector, uint32_t data, bool masked)
{
	uint64_t entry =
	    pci_bar +
	    (fn_get(CONFIG + fn_capability(PCI_CAP_ID_MSIX, 0) + PCI_MSIX_TABLE, 4) & ~7u) +
	    vector * PCI_MSIX_ENTRY_SIZE;

	fn_set(entry + PCI_MSIX_ENTRY_LOWER_ADDR, 4, MSI_ADDR);
	fn_set(entry + PCI_MSIX_ENTRY_UPPER_ADDR, 4, 0);
	fn_set(entry + PCI_MSIX_ENTRY_DATA, 4, data);
	fn_set(entry + PCI_MSIX_ENTRY_VECTOR_CTRL, 4, masked);
}

void fn_set_msix(bool on)
{
	fn_set(CONFIG + fn_capability(PCI_CAP_ID_MSIX, 0) + PCI_MSIX_FLAGS, 2,
	       on ? PCI_MSIX_FLAGS_ENABLE : 0);
}

void fn_start(uint16_t vector)
{
	static const struct {
		unsigned field;
		uint64_t gpa;
	} parts[] = {{VIRTIO_PCI_COMMON_Q_DESCLO, RIG_DESC},
		     {VIRTIO_PCI_COMMON_Q_AVAILLO, RIG_AVAIL},
		     {VIRTIO_PCI_COMMON_Q_USEDLO, RIG_USED}};

	fn_set(fn_common(VIRTIO_PCI_COMMON_STATUS), 1, 0);
	fn_set(fn_common(VIRTIO_PCI_COMMON_STATUS), 1,
	       VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	fn_set(fn_common(VIRTIO_PCI_COMMON_GFSELECT), 4, 1);
	fn_set(fn_common(VIRTIO_PCI_COMMON_GF), 4, VERSION_1 >> 32);
	fn_set(fn_common(VIRTIO_PCI_COMMON_STATUS), 1,
	       VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK);
	ck_assert_uint_eq(fn_get(fn_common(VIRTIO_PCI_COMMON_STATUS), 1) &
			      VIRTIO_CONFIG_S_FEATURES_OK,
			  VIRTIO_CONFIG_S_FEATURES_OK);
	pci_rig.size = 8;
	fn_set(fn_common(VIRTIO_PCI_COMMON_Q_SELECT), 2, 0);
	fn_set(fn_common(VIRTIO_PCI_COMMON_Q_SIZE), 2, pci_rig.size);
	fn_set(fn_common(VIRTIO_PCI_COMMON_Q_MSIX), 2, vector);
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		fn_set(fn_common(parts[i].field), 4, parts[i].gpa);
		fn_set(fn_common(parts[i].field + 4), 4, 0);
	}
	fn_set(fn_common(VIRTIO_PCI_COMMON_Q_ENABLE), 2, 1);
	fn_set(fn_common(VIRTIO_PCI_COMMON_STATUS), 1,
	       VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK |
		   VIRTIO_CONFIG_S_DRIVER_OK);
}

bool fn_flush(void)
{
	struct vring_used_elem elem;
	uint32_t type = 0;

	memcpy(pci_rig.memory->bytes + RIG_HEADER, &type, sizeof(type));
	rig_desc(&pci_rig, 0, RIG_HEADER, 4, VRING_DESC_F_NEXT, 1);
	rig_desc(&pci_rig, 1, RIG_STATUS, 4, VRING_DESC_F_WRITE, 0);
	rig_offer(&pci_rig, 0);
	fn_set(fn_structure(VIRTIO_PCI_CAP_NOTIFY_CFG) +
		   fn_get(fn_common(VIRTIO_PCI_COMMON_Q_NOFF), 2) *
		       fn_get(CONFIG + fn_capability(PCI_CAP_ID_VNDR, VIRTIO_PCI_CAP_NOTIFY_CFG) +
				  VIRTIO_PCI_NOTIFY_CAP_MULT,
			      4),
	       2, 0);
	return rig_wait_used(&pci_rig, &elem) && elem.len == 4;
}

unsigned fn_messages(unsigned expected)
{
	struct timespec pause = {.tv_nsec = 1000000};

	for (int i = 0; i < 60000 && __atomic_load_n(&pci_rig.nr_msi, __ATOMIC_ACQUIRE) < expected;
	     i++)
		nanosleep(&pause, NULL);
	return __atomic_load_n(&pci_rig.nr_msi, __ATOMIC_ACQUIRE);
}

void pci_set_up(void)
{
	struct device *dev;
	struct pci *pci;

	rig_init(&pci_rig);
	pci_rig.host.doorbell = host_doorbell;
	pci_ports = bus_create();
	pci_area = (struct ept_area){.info = {.gpa = GPA(5UL << 30), .size = 64UL << 20}};
	ck_assert_int_eq(pci_create(&pci_rig.host, pci_ports, pci_rig.bus, &pci), 0);
	ck_assert_int_eq(virtio_pmem_create(&pci_rig.host, RIG_PIN, &pci_area, &dev), 0);
	ck_assert_int_eq(pci_add_virtio(pci, dev), 0);
	pci_rig.dev = dev;
	ck_assert_int_eq(bus_start(pci_rig.bus), 0);
	pci_bar = BAR;
}

void pci_tear_down(void)
{
	rig_fini(&pci_rig);
	bus_destroy(pci_ports);
}
