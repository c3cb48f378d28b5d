/* What lies where in guest memory at the first instruction; boot.h has the picture. */
#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysinfo.h>

#include "vmm/boot.h"
#include "vmm/restore.h"

#define FOUR_GIB   FOAL_MMIO_GAP_END
#define PMEM_ALIGN (1UL << 30)

static uint64_t page_up(uint64_t x)
{
	return (x + EPT_PAGE_SIZE - 1) & EPT_PAGE_MASK;
}

uint64_t boot_low_end(const struct vm *vm)
{
	return vm->opt->memory < FOAL_MMIO_GAP_START ? vm->opt->memory : FOAL_MMIO_GAP_START;
}

uint64_t boot_high_size(const struct vm *vm)
{
	return vm->opt->memory - boot_low_end(vm);
}

static int area_error(struct foal_error *err, const char *what, int r)
{
	return error_set(err, FOAL_EXIT_MEMORY, r, "guest memory: %s: %s", what, strerror(-r));
}

/* Lazy memory may be promised to many VMs, but one must be able to have all of its own. */
static int check_host_memory(const struct vm *vm, struct foal_error *err)
{
	struct sysinfo si;

	if (sysinfo(&si))
		return 0;
	uint64_t have = ((uint64_t)si.totalram + si.totalswap) * si.mem_unit;
	if (vm->opt->memory <= have)
		return 0;
	return error_set(err, FOAL_EXIT_MEMORY, -ENOMEM,
			 "--memory: %llu MiB is more than this machine has (%llu MiB with swap)",
			 (unsigned long long)vm->opt->memory >> 20, (unsigned long long)have >> 20);
}

static int declare_ram(struct vm *vm, struct foal_error *err)
{
	int r = check_host_memory(vm, err);

	if (r)
		return r;
	if (boot_low_end(vm) <= FOAL_LEGACY_HOLE_END)
		return error_set(err, FOAL_EXIT_MEMORY, -EINVAL,
				 "--memory: a guest needs more than 1M");
	r = ept_area_add(vm->space, "ram", GPA(0), boot_low_end(vm), NULL, NULL);
	if (r == 0 && boot_high_size(vm))
		r = ept_area_add(vm->space, "ram-high", GPA(FOUR_GIB), boot_high_size(vm), NULL,
				 NULL);
	return r ? area_error(err, "ram", r) : 0;
}

int boot_file_area(struct vm *vm, int fd, const char *path, const char *name, gpa_t gpa,
		   uint64_t offset, uint64_t size, enum ept_file_mode mode, struct ept_area **area,
		   struct foal_error *err)
{
	struct ept_object *obj = NULL;
	int r = ept_object_file(fd, path, offset, size, mode, &obj);

	if (r == 0)
		r = ept_area_add(vm->space, name, gpa, page_up(size), obj, area);
	ept_object_put(obj);
	return r ? error_set(err, FOAL_EXIT_MEMORY, r, "guest memory: %s (%s): %s", name, path,
			     strerror(-r))
		 : 0;
}

/* Firmware reads a bzImage itself; all other kernels lie in memory from the start. */
static bool is_loaded(const struct vm *vm)
{
	return !(vm->opt->firmware && vm->image.boot == BOOT_LINUX64);
}

/* The whole pages of a segment that the file fills. */
static void whole_pages(const struct image_segment *s, uint64_t *start, uint64_t *end)
{
	*start = page_up(s->gpa);
	*end = (s->gpa + s->filesz) & EPT_PAGE_MASK;
	if (*end < *start)
		*end = *start;
}

static int declare_kernel(struct vm *vm, struct foal_error *err)
{
	int r = 0;

	for (unsigned i = 0; is_loaded(vm) && i < vm->image.count && r == 0; i++) {
		const struct image_segment *s = &vm->image.segments[i];
		uint64_t start, end;
		char name[32];

		whole_pages(s, &start, &end);
		if (start == end)
			continue;
		snprintf(name, sizeof(name), "kernel:%s%s%s", s->flags & PF_R ? "r" : "",
			 s->flags & PF_W ? "w" : "", s->flags & PF_X ? "x" : "");
		r = boot_file_area(vm, vm->image.fd, vm->image.path, name, GPA(start),
				   s->offset + (start - s->gpa), end - start, EPT_FILE_COW, NULL,
				   err);
	}
	return r;
}

static int declare_initrd(struct vm *vm, struct foal_error *err)
{
	uint64_t size = page_up(vm->initrd_size);
	uint64_t top = vm->image.initrd_end & EPT_PAGE_MASK;

	if (!vm->opt->initrd)
		return 0;
	if (size > top || top - size < image_end(&vm->image))
		return error_set(err, FOAL_EXIT_MEMORY, -ENOMEM,
				 "initrd %s: does not fit: %llu KiB above the kernel's end 0x%llx; "
				 "give more --memory",
				 vm->opt->initrd, (unsigned long long)size >> 10,
				 (unsigned long long)image_end(&vm->image));
	vm->initrd_gpa = top - size;
	if (vm->opt->firmware)
		return 0; /* which reads it */
	return boot_file_area(vm, vm->initrd_fd, vm->opt->initrd, "initrd", GPA(vm->initrd_gpa), 0,
			      vm->initrd_size, EPT_FILE_COW, NULL, err);
}

static int declare_pmems(struct vm *vm, struct foal_error *err)
{
	static const enum ept_file_mode modes[] = {
	    [DISK_RO] = EPT_FILE_RO, [DISK_COW] = EPT_FILE_COW, [DISK_SHARED] = EPT_FILE_SHARED};
	uint64_t next = FOUR_GIB + boot_high_size(vm);
	int r = 0;

	for (unsigned i = 0; i < vm->opt->pmem_count && r == 0; i++) {
		struct vm_file *f = &vm->pmems[i];
		char name[16];

		snprintf(name, sizeof(name), "pmem%u", i);
		next = (next + PMEM_ALIGN - 1) & ~(PMEM_ALIGN - 1);
		f->gpa = GPA(next);
		r = boot_file_area(vm, f->fd, f->option->path, name, f->gpa, 0, f->size,
				   modes[f->option->mode], &f->area, err);
		next += page_up(f->size);
	}
	return r;
}

static int open_kernel(struct vm *vm, struct foal_error *err)
{
	const struct run_options *opt = vm->opt;
	int r = image_open(&vm->image, opt->kernel, opt->boot, boot_low_end(vm), err);

	if (r == 0 && opt->firmware && !vm->image.setup.header && vm->image.boot != BOOT_PVH)
		r = image_bad(&vm->image, err,
			      "firmware starts an ELF kernel by its PVH entry point, and it has "
			      "none; give the bzImage");
	return r;
}

int boot_declare(struct vm *vm, struct foal_error *err)
{
	int r = declare_ram(vm, err);

	if (r == 0 && vm->opt->firmware)
		r = firmware_declare(vm, err);
	if (r == 0 && vm->opt->kernel)
		r = open_kernel(vm, err);
	if (r == 0)
		r = declare_kernel(vm, err);
	if (r == 0)
		r = declare_initrd(vm, err);
	if (r == 0)
		r = declare_pmems(vm, err);
	if (r == 0 && vm->restore && vm->restore->memory)
		r = restore_memory(vm, err);
	return r;
}

int boot_put(struct vm *vm, uint64_t gpa, const void *data, size_t len, struct foal_error *err)
{
	int r = ept_write(vm->space, GPA(gpa), data, len, EPT_ORIGIN_LOADER);

	if (r == 0)
		return 0;
	const struct ept_failure *failure = ept_space_failure(vm->space);
	if (failure)
		return error_set(err, FOAL_EXIT_FAULT, r, "%s", failure->message);
	return error_set(err, FOAL_EXIT_MEMORY, r, "guest memory: boot data at gpa 0x%llx: %s",
			 (unsigned long long)gpa, strerror(-r));
}

/* Copy bytes [@from, @to) of guest-physical space, at most a page, from segment @s. */
static int copy_ragged(struct vm *vm, const struct image_segment *s, uint64_t from, uint64_t to,
		       struct foal_error *err)
{
	unsigned char page[EPT_PAGE_SIZE];
	size_t len = to - from;

	if (from >= to)
		return 0;
	int r = image_read(&vm->image, page, len, s->offset + (from - s->gpa), err);
	return r ? r : boot_put(vm, from, page, len, err);
}

static int copy_ragged_ends(struct vm *vm, struct foal_error *err)
{
	int r = 0;

	for (unsigned i = 0; is_loaded(vm) && i < vm->image.count && r == 0; i++) {
		const struct image_segment *s = &vm->image.segments[i];
		uint64_t file_end = s->gpa + s->filesz;
		uint64_t start, end;

		whole_pages(s, &start, &end);
		if (start > file_end) /* all inside one page */
			r = copy_ragged(vm, s, s->gpa, file_end, err);
		else if ((r = copy_ragged(vm, s, s->gpa, start, err)) == 0)
			r = copy_ragged(vm, s, end, file_end, err);
	}
	return r;
}

static int write_cmdline(struct vm *vm, struct foal_error *err)
{
	const char *line = vm->opt->append;
	size_t n = strlen(line);

	if (n > vm->image.cmdline_max)
		return error_set(err, FOAL_EXIT_USAGE, -E2BIG,
				 "--append: %zu bytes; this kernel takes %u", n,
				 vm->image.cmdline_max);
	return boot_put(vm, FOAL_CMDLINE, line, n + 1, err);
}

uint32_t boot_memmap(const struct vm *vm, struct memmap_entry map[MEMMAP_MAX])
{
	uint32_t n = 0;

	map[n++] = (struct memmap_entry){0, FOAL_LEGACY_HOLE_START, FOAL_MEMMAP_RAM, 0};
	map[n++] = (struct memmap_entry){FOAL_LEGACY_HOLE_START,
					 FOAL_LEGACY_HOLE_END - FOAL_LEGACY_HOLE_START,
					 FOAL_MEMMAP_RESERVED, 0};
	map[n++] = (struct memmap_entry){
	    FOAL_LEGACY_HOLE_END, boot_low_end(vm) - FOAL_LEGACY_HOLE_END, FOAL_MEMMAP_RAM, 0};
	if (boot_high_size(vm))
		map[n++] = (struct memmap_entry){FOUR_GIB, boot_high_size(vm), FOAL_MEMMAP_RAM, 0};
	if (vm->opt->pci) /* a kernel trusts an MCFG only where memory is reserved */
		map[n++] = (struct memmap_entry){FOAL_PCI_ECAM, FOAL_PCI_ECAM_SIZE,
						 FOAL_MEMMAP_RESERVED, 0};
	return n;
}

static int write_acpi(struct vm *vm, uint64_t *rsdp, struct foal_error *err)
{
	struct acpi_tables tables;
	int r = acpi_build(vm, FOAL_ACPI, FOAL_ACPI_END, &tables, err);

	if (r)
		return r;
	*rsdp = tables.rsdp;
	r = boot_put(vm, tables.rsdp, tables.data, tables.size, err);
	acpi_free(&tables);
	return r;
}

/*
 * Where a PC's reset vector shows below 1 MiB. On a hardware-reduced platform
 * Linux reboots through EFI, and without EFI by a jump there in real mode: it
 * finds the reset of the i8042. Firmware would find itself there; qboot does not
 * know that it has run before, and would boot once more on devices in any state.
 */
static int write_reset_vector(struct vm *vm, struct foal_error *err)
{
	static const uint8_t code[] = {
	    0xb0, FOAL_I8042_RESET, /* mov $value, %al */
	    0xe6, FOAL_PORT_I8042,  /* out %al, $port */
	    0xf4,		    /* hlt */
	};

	return boot_put(vm, FOAL_RESET_VECTOR, code, sizeof(code), err);
}

int boot_write(struct vm *vm, struct foal_error *err)
{
	uint64_t rsdp = 0;
	int r = copy_ragged_ends(vm, err);

	if (r == 0)
		r = write_reset_vector(vm, err);
	if (r == 0 && vm->opt->firmware)
		return firmware_configure(vm, err);
	if (r == 0)
		r = write_cmdline(vm, err);
	if (r == 0)
		r = write_acpi(vm, &rsdp, err);
	if (r)
		return r;
	return vm->image.boot == BOOT_PVH ? boot_pvh_write(vm, rsdp, err)
					  : boot_linux64_write(vm, rsdp, err);
}
