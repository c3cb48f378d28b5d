/*
 * Send `flushes=N` (16) requests to the virtio-pmem device in slot 1 of the PCI
 * bus, and with `move=N` (0) as many times N, its BAR elsewhere each time.
 */
#include "tests/kvm/guests/lib/guest.h"

#define CONFIG	(FOAL_PCI_ECAM + (1UL << 15))
#define COMMAND (CONFIG + 4)
#define BAR_0	(CONFIG + 16)

static void flush_all(uint64_t flushes)
{
	while (flushes-- > 0)
		expect(pmem_flush() == 0, GUEST_BAD_VALUE);
}

unsigned guest_main(const struct start_info *info)
{
	uint64_t flushes = param("flushes", 16), moves = param("move", 0);

	(void)info;
	expect((peek32(CONFIG) & 0xffff) == 0x1af4, GUEST_NO_PMEM);
	pmem_set_up_pci(peek32(BAR_0));
	flush_all(flushes);
	for (uint64_t i = 1; i <= moves; i++) {
		uint64_t bar = FOAL_PCI_WINDOW + i * 0x800000;

		poke32(COMMAND, 0); /* not decoded */
		poke32(BAR_0, ~0u);
		poke32(BAR_0, (uint32_t)bar);
		poke32(COMMAND, 6); /* memory, bus master */
		pmem_moved_pci(bar);
		flush_all(flushes);
	}
	return GUEST_OK;
}
