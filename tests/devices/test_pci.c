/* PCI: the configuration space two ways, BARs that move, the root and its slots. */
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_pci.h>

#include "tests/devices/pci_rig.h"

START_TEST(who_is_there)
{
	ck_assert_uint_eq(fn_get(FOAL_PCI_ECAM, 4),
			  FOAL_PCI_BRIDGE_DEVICE << 16 | FOAL_PCI_BRIDGE_VENDOR);
	ck_assert_uint_eq(fn_get(CONFIG, 4), (0x1040u + VIRTIO_ID_PMEM) << 16 | 0x1af4);
	ck_assert_uint_eq(fn_get(CONFIG + (1 << 12), 4), UINT32_MAX); /* another function */
	ck_assert_uint_eq(fn_get(CONFIG + (1 << 15), 4), UINT32_MAX); /* another slot */
	ck_assert_uint_eq(fn_get(CONFIG + 0x100, 4), 0);	      /* no extended space */
	ck_assert_uint_eq(fn_get(CONFIG + 1, 2), UINT16_MAX);	      /* not aligned */
	fn_set(CONFIG, 4, 0);
	ck_assert_uint_eq(fn_get(CONFIG, 2), 0x1af4);
}
END_TEST

START_TEST(the_same_through_ports)
{
	uint32_t address = 1u << 31 | SLOT << 11, value;

	ck_assert(bus_write(pci_ports, FOAL_PORT_PCI, &address, 4));
	ck_assert(bus_read(pci_ports, FOAL_PORT_PCI + 4, &value, 4));
	ck_assert_uint_eq(value, fn_get(CONFIG, 4));
	value = 0;
	ck_assert(bus_read(pci_ports, FOAL_PORT_PCI + 6, &value, 2));
	ck_assert_uint_eq(value, fn_get(CONFIG + 2, 2));
	address &= ~(1u << 31);
	ck_assert(bus_write(pci_ports, FOAL_PORT_PCI, &address, 4));
	ck_assert(bus_read(pci_ports, FOAL_PORT_PCI + 4, &value, 4));
	ck_assert_uint_eq(value, UINT32_MAX);
	address = 1u << 31 | 1 << 16; /* another bus */
	ck_assert(bus_write(pci_ports, FOAL_PORT_PCI, &address, 4));
	ck_assert(bus_read(pci_ports, FOAL_PORT_PCI + 4, &value, 4));
	ck_assert_uint_eq(value, UINT32_MAX);
}
END_TEST

START_TEST(bar_tells_its_size_and_moves)
{
	fn_set(CONFIG + PCI_BASE_ADDRESS_0, 4, UINT32_MAX);
	ck_assert_uint_eq(fn_get(CONFIG + PCI_BASE_ADDRESS_0, 4), 0xffff8000);
	fn_set(CONFIG + PCI_BASE_ADDRESS_0, 4, FAR_BAR);
	ck_assert_uint_eq(fn_get(BAR + VIRTIO_PCI_COMMON_NUMQ, 2), UINT16_MAX);
	pci_bar = FAR_BAR;
	ck_assert_uint_eq(fn_get(fn_common(VIRTIO_PCI_COMMON_NUMQ), 2), 1);
	fn_set(CONFIG + PCI_COMMAND, 2, 0);
	ck_assert_uint_eq(fn_get(fn_common(VIRTIO_PCI_COMMON_NUMQ), 2), UINT16_MAX);
}
END_TEST

START_TEST(bar_through_the_configuration_space)
{
	unsigned cap = fn_capability(PCI_CAP_ID_VNDR, VIRTIO_PCI_CAP_PCI_CFG);
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
		fn_set(CONFIG + cap + VIRTIO_PCI_CAP_LENGTH, 4, 0);
		fn_set(CONFIG + cap + sizeof(struct virtio_pci_cap), 4, 0x5a5a5a5a);
		fn_set(CONFIG + cap + VIRTIO_PCI_CAP_BAR, 1, ways[i].bar);
		fn_set(CONFIG + cap + VIRTIO_PCI_CAP_OFFSET, 4, ways[i].offset);
		fn_set(CONFIG + cap + VIRTIO_PCI_CAP_LENGTH, 4, ways[i].length);
		ck_assert_uint_eq(fn_get(CONFIG + cap + sizeof(struct virtio_pci_cap), 4),
				  ways[i].expect);
	}
	fn_set(CONFIG + cap + VIRTIO_PCI_CAP_BAR, 1, 0);
	fn_set(CONFIG + cap + VIRTIO_PCI_CAP_OFFSET, 4, VIRTIO_PCI_COMMON_STATUS);
	fn_set(CONFIG + cap + VIRTIO_PCI_CAP_LENGTH, 4, 1);
	fn_set(CONFIG + cap + sizeof(struct virtio_pci_cap), 4, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	ck_assert_uint_eq(fn_get(fn_common(VIRTIO_PCI_COMMON_STATUS), 1),
			  VIRTIO_CONFIG_S_ACKNOWLEDGE);
}
END_TEST

START_TEST(every_register_in_every_width)
{
	for (unsigned len = 1; len <= 8; len *= 2) {
		for (uint64_t at = 0; at < 0x8000; at += len) {
			fn_set(pci_bar + at, len, at * 0x9e3779b97f4a7c15);
			fn_get(pci_bar + at, len);
		}
		for (uint64_t at = 0; at < 0x1000; at += len) {
			fn_set(CONFIG + at, len, at * 0x9e3779b97f4a7c15);
			fn_get(CONFIG + at, len);
		}
	}
	ck_assert_uint_eq(fn_get(CONFIG, 2), 0x1af4);
}
END_TEST

START_TEST(slots_run_out)
{
	struct device *dev;
	struct pci *pci;
	struct bus *bus = bus_create(), *ports = bus_create();
	int rc = 0, n = 0;

	ck_assert_int_eq(pci_create(&pci_rig.host, ports, bus, &pci), 0);
	for (; rc == 0 && n < 64; n++) {
		ck_assert_int_eq(virtio_pmem_create(&pci_rig.host, RIG_PIN, &pci_area, &dev), 0);
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

	ck_assert_int_eq(pci_create(&pci_rig.host, ports, bus, &pci), 0);
	/* A second root finds its place taken, on one bus or on both. */
	ck_assert_int_eq(pci_create(&pci_rig.host, ports, bus, &pci), -EEXIST);
	bus_destroy(bus);
	ck_assert(bus_write(ports, FOAL_PORT_PCI, &(uint32_t){0x80000000}, 4));
	uint32_t value = 0;
	ck_assert(bus_read(ports, FOAL_PORT_PCI, &value, 4));
	ck_assert_uint_eq(value, 0x80000000);
	bus = bus_create();
	ck_assert_int_eq(pci_create(&pci_rig.host, ports, bus, &pci), -EEXIST);
	ck_assert_int_eq(exit_port_create(&pci_rig.host, &dev), 0);
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
	tcase_add_checked_fixture(tc, pci_set_up, pci_tear_down);
	tcase_add_test(tc, who_is_there);
	tcase_add_test(tc, the_same_through_ports);
	tcase_add_test(tc, bar_tells_its_size_and_moves);
	tcase_add_test(tc, bar_through_the_configuration_space);
	tcase_add_test(tc, every_register_in_every_width);
	tcase_add_test(tc, slots_run_out);
	tcase_add_test(tc, root_goes_with_its_last_way_in);
	suite_add_tcase(suite, tc);
	return suite;
}
