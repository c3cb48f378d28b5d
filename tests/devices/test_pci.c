/* PCI: the configuration space two ways, BARs that move, virtio behind it, MSI-X and the pin. */
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_pci.h>
#include <string.h>
#include <time.h>

#include "tests/devices/rig.h"

#define SLOT	  1
#define CONFIG	  (FOAL_PCI_ECAM + (SLOT << 15))
#define BAR	  (FOAL_PCI_WINDOW + SLOT * FOAL_PCI_BAR_STRIDE)
#define FAR_BAR	  (FOAL_PCI_WINDOW + FOAL_PCI_WINDOW_SIZE - 0x8000)
#define MSI_ADDR  0xfee01000u
#define NO_VECTOR VIRTIO_MSI_NO_VECTOR

static struct rig rig;
static struct bus *pio;
static struct ept_area area;
static uint64_t bar;

/* Where the host has a doorbell, and whether it takes any. */
static uint64_t doorbell;
static int doorbell_error;
static unsigned doorbell_calls;

static int host_doorbell(void *ctx, uint64_t addr, int fd, bool on)
{
	(void)ctx;
	ck_assert_int_ge(fd, 0);
	doorbell_calls++;
	if (on && doorbell_error)
		return doorbell_error;
	/* One at a time, and none that is not there is taken away. */
	ck_assert_uint_eq(doorbell, on ? 0 : addr);
	doorbell = on ? addr : 0;
	return 0;
}

/* --- the driver's side ---------------------------------------------------------------- */

static uint64_t get(uint64_t addr, unsigned len)
{
	uint64_t value = 0;

	bus_read(rig.bus, addr, &value, len);
	return value;
}

static void set(uint64_t addr, unsigned len, uint64_t value)
{
	bus_write(rig.bus, addr, &value, len);
}

/* The offset of the capability of @id, and for a vendor's of @type; 0: none. */
static unsigned capability(uint8_t id, uint8_t type)
{
	unsigned at = (unsigned)get(CONFIG + PCI_CAPABILITY_LIST, 1);

	for (int hops = 0; at && hops < 48; hops++) {
		if (get(CONFIG + at, 1) == id &&
		    (id != PCI_CAP_ID_VNDR ||
		     get(CONFIG + at + VIRTIO_PCI_CAP_CFG_TYPE, 1) == type))
			return at;
		at = (unsigned)get(CONFIG + at + PCI_CAP_LIST_NEXT, 1);
	}
	return 0;
}

/* Where the structure of @type lies in the BAR. */
static uint64_t structure(uint8_t type)
{
	unsigned cap = capability(PCI_CAP_ID_VNDR, type);

	ck_assert_uint_ne(cap, 0);
	ck_assert_uint_eq(get(CONFIG + cap + VIRTIO_PCI_CAP_BAR, 1), 0);
	return bar + get(CONFIG + cap + VIRTIO_PCI_CAP_OFFSET, 4);
}

static uint64_t common(unsigned field)
{
	return structure(VIRTIO_PCI_CAP_COMMON_CFG) + field;
}

static void set_vector(unsigned vector, uint32_t data, bool masked)
{
	uint64_t entry = bar +
			 (get(CONFIG + capability(PCI_CAP_ID_MSIX, 0) + PCI_MSIX_TABLE, 4) & ~7u) +
			 vector * PCI_MSIX_ENTRY_SIZE;

	set(entry + PCI_MSIX_ENTRY_LOWER_ADDR, 4, MSI_ADDR);
	set(entry + PCI_MSIX_ENTRY_UPPER_ADDR, 4, 0);
	set(entry + PCI_MSIX_ENTRY_DATA, 4, data);
	set(entry + PCI_MSIX_ENTRY_VECTOR_CTRL, 4, masked);
}

static void set_msix(bool on)
{
	set(CONFIG + capability(PCI_CAP_ID_MSIX, 0) + PCI_MSIX_FLAGS, 2,
	    on ? PCI_MSIX_FLAGS_ENABLE : 0);
}

/* As a driver does; queue 0 interrupts by @vector. */
static void start(uint16_t vector)
{
	static const struct {
		unsigned field;
		uint64_t gpa;
	} parts[] = {{VIRTIO_PCI_COMMON_Q_DESCLO, RIG_DESC},
		     {VIRTIO_PCI_COMMON_Q_AVAILLO, RIG_AVAIL},
		     {VIRTIO_PCI_COMMON_Q_USEDLO, RIG_USED}};

	set(common(VIRTIO_PCI_COMMON_STATUS), 1, 0);
	set(common(VIRTIO_PCI_COMMON_STATUS), 1,
	    VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	set(common(VIRTIO_PCI_COMMON_GFSELECT), 4, 1);
	set(common(VIRTIO_PCI_COMMON_GF), 4, VERSION_1 >> 32);
	set(common(VIRTIO_PCI_COMMON_STATUS), 1,
	    VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK);
	ck_assert_uint_eq(get(common(VIRTIO_PCI_COMMON_STATUS), 1) & VIRTIO_CONFIG_S_FEATURES_OK,
			  VIRTIO_CONFIG_S_FEATURES_OK);
	rig.size = 8;
	set(common(VIRTIO_PCI_COMMON_Q_SELECT), 2, 0);
	set(common(VIRTIO_PCI_COMMON_Q_SIZE), 2, rig.size);
	set(common(VIRTIO_PCI_COMMON_Q_MSIX), 2, vector);
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		set(common(parts[i].field), 4, parts[i].gpa);
		set(common(parts[i].field + 4), 4, 0);
	}
	set(common(VIRTIO_PCI_COMMON_Q_ENABLE), 2, 1);
	set(common(VIRTIO_PCI_COMMON_STATUS), 1,
	    VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK |
		VIRTIO_CONFIG_S_DRIVER_OK);
}

/* One flush request, told by the queue's notification; whether it was answered. */
static bool flush(void)
{
	struct vring_used_elem elem;
	uint32_t type = 0;

	memcpy(rig.memory->bytes + RIG_HEADER, &type, sizeof(type));
	rig_desc(&rig, 0, RIG_HEADER, 4, VRING_DESC_F_NEXT, 1);
	rig_desc(&rig, 1, RIG_STATUS, 4, VRING_DESC_F_WRITE, 0);
	rig_offer(&rig, 0);
	set(structure(VIRTIO_PCI_CAP_NOTIFY_CFG) +
		get(common(VIRTIO_PCI_COMMON_Q_NOFF), 2) *
		    get(CONFIG + capability(PCI_CAP_ID_VNDR, VIRTIO_PCI_CAP_NOTIFY_CFG) +
			    VIRTIO_PCI_NOTIFY_CAP_MULT,
			4),
	    2, 0);
	return rig_wait_used(&rig, &elem) && elem.len == 4;
}

/* Messages sent, waiting for the one that follows the used ring's last change. */
static unsigned messages(unsigned expected)
{
	struct timespec pause = {.tv_nsec = 1000000};

	for (int i = 0; i < 5000 && __atomic_load_n(&rig.nr_msi, __ATOMIC_ACQUIRE) < expected; i++)
		nanosleep(&pause, NULL);
	return __atomic_load_n(&rig.nr_msi, __ATOMIC_ACQUIRE);
}

static void set_up(void)
{
	struct device *dev;
	struct pci *pci;

	rig_init(&rig);
	rig.host.doorbell = host_doorbell;
	pio = bus_create();
	area = (struct ept_area){.info = {.gpa = GPA(5UL << 30), .size = 64UL << 20}};
	ck_assert_int_eq(pci_create(&rig.host, pio, rig.bus, &pci), 0);
	ck_assert_int_eq(virtio_pmem_create(&rig.host, RIG_PIN, &area, &dev), 0);
	ck_assert_int_eq(pci_add_virtio(pci, dev), 0);
	rig.dev = dev;
	ck_assert_int_eq(bus_start(rig.bus), 0);
	bar = BAR;
}

static void tear_down(void)
{
	rig_fini(&rig);
	bus_destroy(pio);
}

/* --- the configuration space -------------------------------------------------------------- */

START_TEST(who_is_there)
{
	ck_assert_uint_eq(get(FOAL_PCI_ECAM, 4),
			  FOAL_PCI_BRIDGE_DEVICE << 16 | FOAL_PCI_BRIDGE_VENDOR);
	ck_assert_uint_eq(get(CONFIG, 4), (0x1040u + VIRTIO_ID_PMEM) << 16 | 0x1af4);
	ck_assert_uint_eq(get(CONFIG + (1 << 12), 4), UINT32_MAX); /* another function */
	ck_assert_uint_eq(get(CONFIG + (1 << 15), 4), UINT32_MAX); /* another slot */
	ck_assert_uint_eq(get(CONFIG + 0x100, 4), 0);		   /* no extended space */
	ck_assert_uint_eq(get(CONFIG + 1, 2), UINT16_MAX);	   /* not aligned */
	set(CONFIG, 4, 0);
	ck_assert_uint_eq(get(CONFIG, 2), 0x1af4);
}
END_TEST

START_TEST(the_same_through_ports)
{
	uint32_t address = 1u << 31 | SLOT << 11, value;

	ck_assert(bus_write(pio, FOAL_PORT_PCI, &address, 4));
	ck_assert(bus_read(pio, FOAL_PORT_PCI + 4, &value, 4));
	ck_assert_uint_eq(value, get(CONFIG, 4));
	value = 0;
	ck_assert(bus_read(pio, FOAL_PORT_PCI + 6, &value, 2));
	ck_assert_uint_eq(value, get(CONFIG + 2, 2));
	address &= ~(1u << 31);
	ck_assert(bus_write(pio, FOAL_PORT_PCI, &address, 4));
	ck_assert(bus_read(pio, FOAL_PORT_PCI + 4, &value, 4));
	ck_assert_uint_eq(value, UINT32_MAX);
	address = 1u << 31 | 1 << 16; /* another bus */
	ck_assert(bus_write(pio, FOAL_PORT_PCI, &address, 4));
	ck_assert(bus_read(pio, FOAL_PORT_PCI + 4, &value, 4));
	ck_assert_uint_eq(value, UINT32_MAX);
}
END_TEST

START_TEST(bar_tells_its_size_and_moves)
{
	set(CONFIG + PCI_BASE_ADDRESS_0, 4, UINT32_MAX);
	ck_assert_uint_eq(get(CONFIG + PCI_BASE_ADDRESS_0, 4), 0xffff8000);
	set(CONFIG + PCI_BASE_ADDRESS_0, 4, FAR_BAR);
	ck_assert_uint_eq(get(BAR + VIRTIO_PCI_COMMON_NUMQ, 2), UINT16_MAX);
	bar = FAR_BAR;
	ck_assert_uint_eq(get(common(VIRTIO_PCI_COMMON_NUMQ), 2), 1);
	set(CONFIG + PCI_COMMAND, 2, 0);
	ck_assert_uint_eq(get(common(VIRTIO_PCI_COMMON_NUMQ), 2), UINT16_MAX);
}
END_TEST

START_TEST(bar_through_the_configuration_space)
{
	unsigned cap = capability(PCI_CAP_ID_VNDR, VIRTIO_PCI_CAP_PCI_CFG);
	static const struct {
		uint32_t bar, offset, length, expect;
	} ways[] = {
	    {0, VIRTIO_PCI_COMMON_NUMQ, 2, 1},
	    {0, VIRTIO_PCI_COMMON_NUMQ, 3, 0x5a5a5a5a}, /* a width there is not */
	    {0, VIRTIO_PCI_COMMON_NUMQ + 1, 2, 0x5a5a5a5a},
	    {1, VIRTIO_PCI_COMMON_NUMQ, 2, 0x5a5a5a5a}, /* a BAR there is not */
	    {0, 0xfffffffe, 2, 0x5a5a5a5a},
	    {0, 0x8000, 4, 0x5a5a5a5a}, /* past its end */
	};

	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		set(CONFIG + cap + VIRTIO_PCI_CAP_LENGTH, 4, 0);
		set(CONFIG + cap + sizeof(struct virtio_pci_cap), 4, 0x5a5a5a5a);
		set(CONFIG + cap + VIRTIO_PCI_CAP_BAR, 1, ways[i].bar);
		set(CONFIG + cap + VIRTIO_PCI_CAP_OFFSET, 4, ways[i].offset);
		set(CONFIG + cap + VIRTIO_PCI_CAP_LENGTH, 4, ways[i].length);
		ck_assert_uint_eq(get(CONFIG + cap + sizeof(struct virtio_pci_cap), 4),
				  ways[i].expect);
	}
	set(CONFIG + cap + VIRTIO_PCI_CAP_BAR, 1, 0);
	set(CONFIG + cap + VIRTIO_PCI_CAP_OFFSET, 4, VIRTIO_PCI_COMMON_STATUS);
	set(CONFIG + cap + VIRTIO_PCI_CAP_LENGTH, 4, 1);
	set(CONFIG + cap + sizeof(struct virtio_pci_cap), 4, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	ck_assert_uint_eq(get(common(VIRTIO_PCI_COMMON_STATUS), 1), VIRTIO_CONFIG_S_ACKNOWLEDGE);
}
END_TEST

/* --- requests and interrupts ----------------------------------------------------------------- */

START_TEST(request_ends_in_a_message)
{
	set_msix(true);
	set_vector(1, 0x41, false);
	start(1);
	ck_assert(flush());
	ck_assert_uint_eq(messages(1), 1);
	ck_assert_uint_eq(rig.msi[0].addr, MSI_ADDR);
	ck_assert_uint_eq(rig.msi[0].data, 0x41);
	ck_assert_uint_eq(atomic_load(&rig.rises), 0);
	bus_stop(rig.bus);
	ck_assert_uint_eq(area.syncs, 1);
}
END_TEST

START_TEST(masked_message_waits)
{
	uint64_t pending =
	    bar + (get(CONFIG + capability(PCI_CAP_ID_MSIX, 0) + PCI_MSIX_PBA, 4) & ~7u);
	struct timespec pause = {.tv_nsec = 1000000};

	set_msix(true);
	set_vector(1, 0x42, true);
	start(1);
	ck_assert(flush());
	for (int i = 0; i < 5000 && get(pending, 4) != 2; i++)
		nanosleep(&pause, NULL);
	ck_assert_uint_eq(get(pending, 4), 2);
	ck_assert_uint_eq(messages(0), 0);
	set_vector(1, 0x43, false);
	ck_assert_uint_eq(messages(1), 1);
	ck_assert_uint_eq(rig.msi[0].data, 0x43);
	ck_assert_uint_eq(get(pending, 4), 0);
}
END_TEST

START_TEST(vector_that_is_not_there)
{
	start(2);
	ck_assert_uint_eq(get(common(VIRTIO_PCI_COMMON_Q_MSIX), 2), NO_VECTOR);
	set_msix(true);
	ck_assert(flush());
	ck_assert_uint_eq(messages(0), 0);
}
END_TEST

/* Without MSI-X the pin rises, and reading the ISR status lets it fall. */
START_TEST(request_ends_on_the_pin)
{
	start(NO_VECTOR);
	ck_assert(flush());
	ck_assert(rig_wait(&rig.level, true));
	ck_assert_uint_eq(get(structure(VIRTIO_PCI_CAP_ISR_CFG), 1), 1);
	ck_assert(!atomic_load(&rig.level));
	ck_assert_uint_eq(get(structure(VIRTIO_PCI_CAP_ISR_CFG), 1), 0);
	set(CONFIG + PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_INTX_DISABLE);
	ck_assert(flush());
	bus_stop(rig.bus);
	ck_assert(!atomic_load(&rig.level));
}
END_TEST

static uint64_t notify_address(void)
{
	return structure(VIRTIO_PCI_CAP_NOTIFY_CFG);
}

/* A running driver has its doorbell, wherever it puts the BAR in the window, and nowhere else. */
START_TEST(doorbell_follows_the_bar)
{
	uint32_t decoding = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;

	ck_assert_uint_eq(doorbell_calls, 0);
	start(NO_VECTOR);
	ck_assert_uint_eq(doorbell, notify_address());
	set(CONFIG + PCI_BASE_ADDRESS_0, 4, FAR_BAR);
	bar = FAR_BAR;
	ck_assert_uint_eq(doorbell, notify_address());
	ck_assert(flush());
	set(CONFIG + PCI_COMMAND, 2, 0);
	ck_assert_uint_eq(doorbell, 0);
	set(CONFIG + PCI_COMMAND, 2, decoding);
	ck_assert_uint_eq(doorbell, notify_address());
	/* Where others are: as it asks for the size, and over RAM and the IOAPIC. */
	set(CONFIG + PCI_BASE_ADDRESS_0, 4, UINT32_MAX);
	ck_assert_uint_eq(doorbell, 0);
	set(CONFIG + PCI_BASE_ADDRESS_0, 4, 0);
	ck_assert_uint_eq(doorbell, 0);
	set(CONFIG + PCI_BASE_ADDRESS_0, 4, FOAL_PCI_WINDOW - 0x8000);
	ck_assert_uint_eq(doorbell, 0);
	set(CONFIG + PCI_BASE_ADDRESS_0, 4, FOAL_IOAPIC_BASE);
	ck_assert_uint_eq(doorbell, 0);
	set(CONFIG + PCI_BASE_ADDRESS_0 + 2, 2, BAR >> 16);
	set(CONFIG + PCI_BASE_ADDRESS_0, 2, BAR & UINT16_MAX);
	bar = BAR;
	ck_assert_uint_eq(doorbell, notify_address());
	set(common(VIRTIO_PCI_COMMON_STATUS), 1, 0);
	ck_assert_uint_eq(doorbell, 0);
	/* Without a driver it goes nowhere. */
	set(CONFIG + PCI_BASE_ADDRESS_0, 4, FAR_BAR);
	ck_assert_uint_eq(doorbell, 0);
}
END_TEST

START_TEST(doorbell_that_the_host_refuses)
{
	doorbell_error = -EEXIST;
	start(NO_VECTOR);
	ck_assert_uint_eq(doorbell_calls, 1);
	ck_assert(flush());
	set(CONFIG + PCI_COMMAND, 2, 0);
	ck_assert_uint_eq(doorbell_calls, 1);
}
END_TEST

/* Each field in its own width; anything else changes nothing. */
START_TEST(odd_widths)
{
	set(common(VIRTIO_PCI_COMMON_STATUS), 4, UINT32_MAX);
	set(common(VIRTIO_PCI_COMMON_DFSELECT), 2, 1);
	set(common(VIRTIO_PCI_COMMON_Q_DESCLO), 8, UINT64_MAX);
	ck_assert_uint_eq(get(common(VIRTIO_PCI_COMMON_STATUS), 1), 0);
	ck_assert_uint_eq(get(common(VIRTIO_PCI_COMMON_DFSELECT), 4), 0);
	ck_assert_uint_eq(get(common(VIRTIO_PCI_COMMON_Q_DESCLO), 4), 0);
	set(common(VIRTIO_PCI_COMMON_Q_SELECT), 2, 7); /* a queue there is not */
	set(common(VIRTIO_PCI_COMMON_Q_SIZE), 2, 8);
	set(common(VIRTIO_PCI_COMMON_Q_ENABLE), 2, 1);
	ck_assert_uint_eq(get(common(VIRTIO_PCI_COMMON_Q_SIZE), 2), 0);
}
END_TEST

START_TEST(reset_forgets_vectors_and_queues)
{
	set_msix(true);
	start(1);
	set(common(VIRTIO_PCI_COMMON_STATUS), 1, 0);
	ck_assert_uint_eq(get(common(VIRTIO_PCI_COMMON_STATUS), 1), 0);
	ck_assert_uint_eq(get(common(VIRTIO_PCI_COMMON_Q_MSIX), 2), NO_VECTOR);
	ck_assert_uint_eq(get(common(VIRTIO_PCI_COMMON_Q_ENABLE), 2), 0);
}
END_TEST

START_TEST(every_register_in_every_width)
{
	for (unsigned len = 1; len <= 8; len *= 2) {
		for (uint64_t at = 0; at < 0x8000; at += len) {
			set(bar + at, len, at * 0x9e3779b97f4a7c15);
			get(bar + at, len);
		}
		for (uint64_t at = 0; at < 0x1000; at += len) {
			set(CONFIG + at, len, at * 0x9e3779b97f4a7c15);
			get(CONFIG + at, len);
		}
	}
	ck_assert_uint_eq(get(CONFIG, 2), 0x1af4);
}
END_TEST

START_TEST(slots_run_out)
{
	struct device *dev;
	struct pci *pci;
	struct bus *bus = bus_create(), *ports = bus_create();
	int rc = 0, n = 0;

	ck_assert_int_eq(pci_create(&rig.host, ports, bus, &pci), 0);
	for (; rc == 0 && n < 64; n++) {
		ck_assert_int_eq(virtio_pmem_create(&rig.host, RIG_PIN, &area, &dev), 0);
		rc = pci_add_virtio(pci, dev);
	}
	ck_assert_int_eq(rc, -ENOSPC);
	ck_assert_int_eq(n, FOAL_PCI_SLOTS);
	bus_destroy(bus);
	bus_destroy(ports);
}
END_TEST

/* Whichever bus goes first, or has no room for it. Told by the address sanitizer, too. */
START_TEST(root_goes_with_its_last_way_in)
{
	struct bus *bus = bus_create(), *ports = bus_create();
	struct device *dev;
	struct pci *pci;

	ck_assert_int_eq(pci_create(&rig.host, ports, bus, &pci), 0);
	/* A second root finds its place taken, on one bus or on both. */
	ck_assert_int_eq(pci_create(&rig.host, ports, bus, &pci), -EEXIST);
	bus_destroy(bus);
	ck_assert(bus_write(ports, FOAL_PORT_PCI, &(uint32_t){0x80000000}, 4));
	uint32_t value = 0;
	ck_assert(bus_read(ports, FOAL_PORT_PCI, &value, 4));
	ck_assert_uint_eq(value, 0x80000000);
	bus = bus_create();
	ck_assert_int_eq(pci_create(&rig.host, ports, bus, &pci), -EEXIST);
	ck_assert_int_eq(exit_port_create(&rig.host, &dev), 0);
	/* Its window and its configuration space are still there, and found. */
	ck_assert(bus_read(bus, FOAL_PCI_ECAM, &value, 4));
	ck_assert_uint_eq(value & 0xffff, FOAL_PCI_BRIDGE_VENDOR);
	ck_assert_int_eq(bus_attach(bus, dev, FOAL_PCI_WINDOW, 1), -EEXIST);
	bus_destroy(ports);
	bus_destroy(bus);
}
END_TEST

Suite *pci_suite(void)
{
	Suite *suite = suite_create("PCI");
	TCase *tc = tcase_create("PCI");

	tcase_set_timeout(tc, 20);
	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_test(tc, who_is_there);
	tcase_add_test(tc, the_same_through_ports);
	tcase_add_test(tc, bar_tells_its_size_and_moves);
	tcase_add_test(tc, bar_through_the_configuration_space);
	tcase_add_test(tc, request_ends_in_a_message);
	tcase_add_test(tc, masked_message_waits);
	tcase_add_test(tc, vector_that_is_not_there);
	tcase_add_test(tc, request_ends_on_the_pin);
	tcase_add_test(tc, doorbell_follows_the_bar);
	tcase_add_test(tc, doorbell_that_the_host_refuses);
	tcase_add_test(tc, odd_widths);
	tcase_add_test(tc, reset_forgets_vectors_and_queues);
	tcase_add_test(tc, every_register_in_every_width);
	tcase_add_test(tc, slots_run_out);
	tcase_add_test(tc, root_goes_with_its_last_way_in);
	suite_add_tcase(suite, tc);
	return suite;
}
