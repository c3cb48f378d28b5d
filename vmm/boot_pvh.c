/* PVH: the boot information is a start_info (Xen public headers, hvm/start_info.h). */
#include "vmm/boot.h"

struct start_info {
	uint32_t magic, version, flags, module_count;
	uint64_t modules, cmdline, rsdp, memmap;
	uint32_t memmap_count, reserved;
};

struct start_module {
	uint64_t gpa, size, cmdline, reserved;
};

int boot_pvh_write(struct vm *vm, uint64_t rsdp, struct foal_error *err)
{
	struct memmap_entry map[MEMMAP_MAX];
	struct {
		struct start_info info;
		struct start_module initrd;
	} start = {
	    .info = {.magic = FOAL_PVH_MAGIC,
		     .version = 1,
		     .cmdline = FOAL_CMDLINE,
		     .rsdp = rsdp,
		     .memmap = FOAL_MEMMAP,
		     .memmap_count = boot_memmap(vm, map)},
	    .initrd = {.gpa = vm->initrd_gpa, .size = vm->initrd_size},
	};

	if (vm->opt->initrd) {
		start.info.module_count = 1;
		start.info.modules = FOAL_START_INFO + sizeof(start.info);
	}
	int r = boot_put(vm, FOAL_START_INFO, &start, sizeof(start), err);
	return r ? r
		 : boot_put(vm, FOAL_MEMMAP, map, start.info.memmap_count * sizeof(map[0]), err);
}
