/*
 * End with `status=N` (0), after saying the command line if `say=cmdline` is on
 * it, and checking what the boot information says of memory and initrd.
 */
#include "tests/kvm/guests/lib/guest.h"

/* `ram=N`: the usable bytes that the memory map must add up to, the legacy hole apart. */
static void check_memory(void)
{
	struct memmap_entry e;
	uint64_t sum = FOAL_LEGACY_HOLE_END - FOAL_LEGACY_HOLE_START;

	for (unsigned i = 0; (e = memory_range(FOAL_MEMMAP_RAM, i)).size; i++)
		sum += e.size;
	expect(param("ram", sum) == sum, GUEST_BAD_INFO);
}

/* `initrd=N`: its size; its first and last byte are 0x5a. */
static void check_initrd(const struct start_info *info)
{
	const struct boot_module *module = (const struct boot_module *)info->modules;
	uint64_t size = param("initrd", 0);

	expect(info->module_count == (size != 0), GUEST_BAD_INFO);
	if (!size)
		return;
	expect(module->size == size, GUEST_BAD_INFO);
	const volatile uint8_t *bytes = (const volatile uint8_t *)module->gpa;
	expect(bytes[0] == 0x5a && bytes[size - 1] == 0x5a, GUEST_BAD_VALUE);
	/* Behind its end the last page is zeros. */
	expect(size % PAGE == 0 || bytes[size] == 0, GUEST_BAD_VALUE);
}

unsigned guest_main(const struct start_info *info)
{
	check_memory();
	check_initrd(info);
	if (param_is("say", "cmdline")) {
		say(command_line());
		say("\n");
	}
	return (unsigned)param("status", 0);
}
