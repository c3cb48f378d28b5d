/* virtio behind PCI: requests, MSI-X, the pin, doorbells. */
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/virtio_pci.h>
#include <time.h>

#include "tests/devices/pci_rig.h"

START_TEST(request_ends_in_a_message)
{
	fn_set_msix(true);
	fn_set_vector(1, 0x41, false);
	fn_start(1);
	ck_assert(fn_flush());
	ck_assert_uint_eq(fn_messages(1), 1);
	ck_assert_uint_eq(pci_rig.msi[0].addr, MSI_ADDR);
	ck_assert_uint_eq(pci_rig.msi[0].data, 0x41);
	ck_assert_uint_eq(atomic_load(&pci_rig.rises), 0);
	bus_stop(pci_rig.bus);
	ck_assert_uint_eq(pci_area.syncs, 1);
}
END_TEST

/* What the driver asks for while the device is held waits, and is answered after. */
START_TEST(held)
{
	fn_start(0);
	ck_assert(fn_flush());
	ck_assert_ptr_null(bus_hold(pci_rig.bus, UINT64_MAX / 2));
	uint16_t before = rig_used_idx(&pci_rig);
	rig_offer(&pci_rig, 0); /* the same once more */
	ck_assert(rig_wait_idle());
	ck_assert_uint_eq(rig_used_idx(&pci_rig), before);
	bus_release(pci_rig.bus);
	struct vring_used_elem elem;
	ck_assert(rig_wait_used(&pci_rig, &elem));
}
END_TEST

START_TEST(masked_message_waits)
{
	uint64_t pending =
	    pci_bar + (fn_get(CONFIG + fn_capability(PCI_CAP_ID_MSIX, 0) + PCI_MSIX_PBA, 4) & ~7u);
	struct timespec pause = {.tv_nsec = 1000000};

	fn_set_msix(true);
	fn_set_vector(1, 0x42, true);
	fn_start(1);
	ck_assert(fn_flush());
	for (int i = 0; i < 60000 && fn_get(pending, 4) != 2; i++)
		nanosleep(&pause, NULL);
	ck_assert_uint_eq(fn_get(pending, 4), 2);
	ck_assert_uint_eq(fn_messages(0), 0);
	fn_set_vector(1, 0x43, false);
	ck_assert_uint_eq(fn_messages(1), 1);
	ck_assert_uint_eq(pci_rig.msi[0].data, 0x43);
	ck_assert_uint_eq(fn_get(pending, 4), 0);
}
END_TEST

START_TEST(vector_that_is_not_there)
{
	fn_start(2);
	ck_assert_uint_eq(fn_get(fn_common(VIRTIO_PCI_COMMON_Q_MSIX), 2), NO_VECTOR);
	fn_set_msix(true);
	ck_assert(fn_flush());
	ck_assert_uint_eq(fn_messages(0), 0);
}
END_TEST

/* Without MSI-X the pin rises, and reading the ISR status lets it fall. */
START_TEST(request_ends_on_the_pin)
{
	fn_start(NO_VECTOR);
	ck_assert(fn_flush());
	ck_assert(rig_wait(&pci_rig.level, true));
	ck_assert_uint_eq(fn_get(fn_structure(VIRTIO_PCI_CAP_ISR_CFG), 1), 1);
	ck_assert(!atomic_load(&pci_rig.level));
	ck_assert_uint_eq(fn_get(fn_structure(VIRTIO_PCI_CAP_ISR_CFG), 1), 0);
	fn_set(CONFIG + PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_INTX_DISABLE);
	ck_assert(fn_flush());
	bus_stop(pci_rig.bus);
	ck_assert(!atomic_load(&pci_rig.level));
}
END_TEST

static uint64_t notify_address(void)
{
	return fn_structure(VIRTIO_PCI_CAP_NOTIFY_CFG);
}

/* A running driver has its doorbell, wherever it puts the BAR in the window, and nowhere else. */
START_TEST(doorbell_follows_the_bar)
{
	uint32_t decoding = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;

	ck_assert_uint_eq(doorbell.calls, 0);
	fn_start(NO_VECTOR);
	ck_assert_uint_eq(doorbell.at, notify_address());
	fn_set(CONFIG + PCI_BASE_ADDRESS_0, 4, FAR_BAR);
	pci_bar = FAR_BAR;
	ck_assert_uint_eq(doorbell.at, notify_address());
	ck_assert(fn_flush());
	fn_set(CONFIG + PCI_COMMAND, 2, 0);
	ck_assert_uint_eq(doorbell.at, 0);
	fn_set(CONFIG + PCI_COMMAND, 2, decoding);
	ck_assert_uint_eq(doorbell.at, notify_address());
	/* Where others are: as it asks for the size, and over RAM and the IOAPIC. */
	fn_set(CONFIG + PCI_BASE_ADDRESS_0, 4, UINT32_MAX);
	ck_assert_uint_eq(doorbell.at, 0);
	fn_set(CONFIG + PCI_BASE_ADDRESS_0, 4, 0);
	ck_assert_uint_eq(doorbell.at, 0);
	fn_set(CONFIG + PCI_BASE_ADDRESS_0, 4, FOAL_PCI_WINDOW - 0x8000);
	ck_assert_uint_eq(doorbell.at, 0);
	fn_set(CONFIG + PCI_BASE_ADDRESS_0, 4, FOAL_IOAPIC_BASE);
	ck_assert_uint_eq(doorbell.at, 0);
	fn_set(CONFIG + PCI_BASE_ADDRESS_0 + 2, 2, BAR >> 16);
	fn_set(CONFIG + PCI_BASE_ADDRESS_0, 2, BAR & UINT16_MAX);
	pci_bar = BAR;
	ck_assert_uint_eq(doorbell.at, notify_address());
	fn_set(fn_common(VIRTIO_PCI_COMMON_STATUS), 1, 0);
	ck_assert_uint_eq(doorbell.at, 0);
	/* Without a driver it goes nowhere. */
	fn_set(CONFIG + PCI_BASE_ADDRESS_0, 4, FAR_BAR);
	ck_assert_uint_eq(doorbell.at, 0);
}
END_TEST

START_TEST(doorbell_that_the_host_refuses)
{
	doorbell.error = -EEXIST;
	fn_start(NO_VECTOR);
	ck_assert_uint_eq(doorbell.calls, 1);
	ck_assert(fn_flush());
	fn_set(CONFIG + PCI_COMMAND, 2, 0);
	ck_assert_uint_eq(doorbell.calls, 1);
}
END_TEST

/* Each field in its own width; anything else changes nothing. */
START_TEST(odd_widths)
{
	fn_set(fn_common(VIRTIO_PCI_COMMON_STATUS), 4, UINT32_MAX);
	fn_set(fn_common(VIRTIO_PCI_COMMON_DFSELECT), 2, 1);
	fn_set(fn_common(VIRTIO_PCI_COMMON_Q_DESCLO), 8, UINT64_MAX);
	ck_assert_uint_eq(fn_get(fn_common(VIRTIO_PCI_COMMON_STATUS), 1), 0);
	ck_assert_uint_eq(fn_get(fn_common(VIRTIO_PCI_COMMON_DFSELECT), 4), 0);
	ck_assert_uint_eq(fn_get(fn_common(VIRTIO_PCI_COMMON_Q_DESCLO), 4), 0);
	fn_set(fn_common(VIRTIO_PCI_COMMON_Q_SELECT), 2, 7); /* a queue there is not */
	fn_set(fn_common(VIRTIO_PCI_COMMON_Q_SIZE), 2, 8);
	fn_set(fn_common(VIRTIO_PCI_COMMON_Q_ENABLE), 2, 1);
	ck_assert_uint_eq(fn_get(fn_common(VIRTIO_PCI_COMMON_Q_SIZE), 2), 0);
}
END_TEST

START_TEST(reset_forgets_vectors_and_queues)
{
	fn_set_msix(true);
	fn_start(1);
	fn_set(fn_common(VIRTIO_PCI_COMMON_STATUS), 1, 0);
	ck_assert_uint_eq(fn_get(fn_common(VIRTIO_PCI_COMMON_STATUS), 1), 0);
	ck_assert_uint_eq(fn_get(fn_common(VIRTIO_PCI_COMMON_Q_MSIX), 2), NO_VECTOR);
	ck_assert_uint_eq(fn_get(fn_common(VIRTIO_PCI_COMMON_Q_ENABLE), 2), 0);
}
END_TEST

Suite *pci_virtio_suite(void)
{
	Suite *suite = suite_create("virtio behind PCI");
	TCase *tc = tcase_create("virtio behind PCI");

	tcase_set_timeout(tc, 20);
	tcase_add_checked_fixture(tc, pci_set_up, pci_tear_down);
	tcase_add_test(tc, request_ends_in_a_message);
	tcase_add_test(tc, held);
	tcase_add_test(tc, masked_message_waits);
	tcase_add_test(tc, vector_that_is_not_there);
	tcase_add_test(tc, request_ends_on_the_pin);
	tcase_add_test(tc, doorbell_follows_the_bar);
	tcase_add_test(tc, doorbell_that_the_host_refuses);
	tcase_add_test(tc, odd_widths);
	tcase_add_test(tc, reset_forgets_vectors_and_queues);
	suite_add_tcase(suite, tc);
	return suite;
}
