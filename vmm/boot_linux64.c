/*
 * The 64-bit boot protocol (linux/Documentation/arch/x86/boot.rst, zero-page.rst):
 * the kernel starts in long mode, on page tables and a GDT of the loader's, with
 * the address of boot_params in RSI.
 */
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "vmm/boot.h"
#include "vmm/entry.h"

#define LOADER_UNKNOWN 0xff /* type_of_loader without an assigned number */
#define ENTRIES	       512
#define SEED_SIZE      32
#define GIB	       (1UL << 30)
#define LARGE_PAGE     (2UL << 20)

/* SDM 3A 4.5: present, writable; of a page directory: maps 2 MiB. */
#define PTE_TABLE      0x3UL
#define PTE_LARGE      0x83UL

static uint32_t low32(uint64_t x)
{
	return (uint32_t)x;
}

static uint32_t high32(uint64_t x)
{
	return (uint32_t)(x >> 32);
}

static void fill_e820(const struct vm *vm, struct boot_params *params)
{
	struct memmap_entry map[MEMMAP_MAX];

	params->e820_entries = (uint8_t)boot_memmap(vm, map);
	for (unsigned i = 0; i < params->e820_entries; i++)
		params->e820_table[i] =
		    (struct boot_e820_entry){map[i].gpa, map[i].size, map[i].type};
}

/* An ELF file has no setup header: what the kernel looks at is filled in for it. */
static void fill_header(const struct vm *vm, struct setup_header *hdr)
{
	*hdr = vm->image.setup;
	hdr->type_of_loader = LOADER_UNKNOWN;
	hdr->cmd_line_ptr = low32(FOAL_CMDLINE);
	hdr->ramdisk_image = low32(vm->initrd_gpa);
	hdr->ramdisk_size = low32(vm->initrd_size);
	hdr->setup_data = FOAL_BOOT_SEED;
	if (hdr->header)
		return;
	hdr->boot_flag = 0xaa55;
	hdr->header = 0x53726448; /* "HdrS" */
	hdr->version = 0x20f;
	hdr->loadflags = LOADED_HIGH;
	hdr->kernel_alignment = LARGE_PAGE;
}

static int write_params(struct vm *vm, uint64_t rsdp, struct foal_error *err)
{
	struct boot_params params = {0};

	fill_header(vm, &params.hdr);
	params.ext_ramdisk_image = high32(vm->initrd_gpa);
	params.ext_ramdisk_size = high32(vm->initrd_size);
	params.acpi_rsdp_addr = rsdp;
	fill_e820(vm, &params);
	return boot_put(vm, FOAL_BOOT_PARAMS, &params, sizeof(params), err);
}

/* Entropy for the kernel's first use of it, long before it finds a virtio-rng. */
static int write_seed(struct vm *vm, struct foal_error *err)
{
	struct {
		struct setup_data head;
		uint8_t bytes[SEED_SIZE];
	} seed = {.head = {.type = SETUP_RNG_SEED, .len = SEED_SIZE}};

	if (getrandom(seed.bytes, SEED_SIZE, 0) != SEED_SIZE)
		return error_set(err, FOAL_EXIT_HOST, -EIO, "getrandom: %s", strerror(errno));
	int r = boot_put(vm, FOAL_BOOT_SEED, &seed, sizeof(seed), err);
	explicit_bzero(&seed, sizeof(seed));
	return r;
}

static int write_gdt(struct vm *vm, struct foal_error *err)
{
	uint64_t gdt[ENTRY_GDT_ENTRIES];

	entry_gdt(gdt);
	return boot_put(vm, FOAL_BOOT_GDT, gdt, sizeof(gdt), err);
}

/*
 * Identity, in pages of 2 MiB, up to the end of the kernel: all that it is
 * promised. Its first act is to build tables of its own.
 */
static int write_page_tables(struct vm *vm, struct foal_error *err)
{
	uint64_t table[ENTRIES] = {(FOAL_BOOT_PAGE_TABLES + EPT_PAGE_SIZE) | PTE_TABLE};
	uint64_t directories = (image_end(&vm->image) + GIB - 1) / GIB;
	uint64_t at = FOAL_BOOT_PAGE_TABLES;
	int r = boot_put(vm, at, table, sizeof(table), err);

	memset(table, 0, sizeof(table));
	for (uint64_t i = 0; i < directories; i++)
		table[i] = (at + (2 + i) * EPT_PAGE_SIZE) | PTE_TABLE;
	if (r == 0)
		r = boot_put(vm, at + EPT_PAGE_SIZE, table, sizeof(table), err);
	for (uint64_t i = 0; i < directories && r == 0; i++) {
		for (uint64_t j = 0; j < ENTRIES; j++)
			table[j] = (i * GIB + j * LARGE_PAGE) | PTE_LARGE;
		r = boot_put(vm, at + (2 + i) * EPT_PAGE_SIZE, table, sizeof(table), err);
	}
	return r;
}

int boot_linux64_write(struct vm *vm, uint64_t rsdp, struct foal_error *err)
{
	int r = write_params(vm, rsdp, err);

	if (r == 0)
		r = write_seed(vm, err);
	if (r == 0)
		r = write_gdt(vm, err);
	return r ? r : write_page_tables(vm, err);
}
