/*
 * What lies where in guest memory at the first instruction.
 *
 *   0x6000   hvm_start_info, module list behind it     (Xen public headers,
 *   0x7000   memory map                                 hvm/start_info.h)
 *   0x20000  command line
 *   1 MiB..  kernel segments: whole pages are file areas, read only where
 *            touched; the ragged ends of a segment are copied
 *   top      initrd, a file area
 *   above    the rest of RAM, then pmem files at 1 GiB steps
 */
#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysinfo.h>

#include "vmm/vm.h"

#define FOUR_GIB   FOAL_MMIO_GAP_END
#define PMEM_ALIGN (1UL << 30)

struct start_info {
	uint32_t magic, version, flags, module_count;
	uint64_t modules, cmdline, rsdp, memmap;
	uint32_t memmap_count, reserved;
};

struct start_module {
	uint64_t gpa, size, cmdline, reserved;
};

struct memmap_entry {
	uint64_t gpa, size;
	uint32_t type, reserved;
};

static uint64_t page_up(uint64_t x)
{
	return (x + EPT_PAGE_SIZE - 1) & EPT_PAGE_MASK;
}

static uint64_t low_end(const struct vm *vm)
{
	return vm->opt->memory < FOAL_MMIO_GAP_START ? vm->opt->memory : FOAL_MMIO_GAP_START;
}

static uint64_t high_size(const struct vm *vm)
{
	return vm->opt->memory - low_end(vm);
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
	if (low_end(vm) <= FOAL_LEGACY_HOLE_END)
		return error_set(err, FOAL_EXIT_MEMORY, -EINVAL,
				 "--memory: a guest needs more than 1M");
	r = ept_area_add(vm->space, "ram", GPA(0), low_end(vm), NULL, NULL);
	if (r == 0 && high_size(vm))
		r = ept_area_add(vm->space, "ram-high", GPA(FOUR_GIB), high_size(vm), NULL, NULL);
	return r ? area_error(err, "ram", r) : 0;
}

/* A file's bytes as an area; the object's page cache is the area's alone. */
static int declare_file(struct vm *vm, int fd, const char *path, const char *name, gpa_t gpa,
			uint64_t offset, uint64_t size, enum ept_file_mode mode,
			struct ept_area **area, struct foal_error *err)
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

	for (unsigned i = 0; i < vm->image.count && r == 0; i++) {
		const struct image_segment *s = &vm->image.segments[i];
		uint64_t start, end;
		char name[32];

		whole_pages(s, &start, &end);
		if (start == end)
			continue;
		snprintf(name, sizeof(name), "kernel:%s%s%s", s->flags & PF_R ? "r" : "",
			 s->flags & PF_W ? "w" : "", s->flags & PF_X ? "x" : "");
		r = declare_file(vm, vm->image.fd, vm->image.path, name, GPA(start),
				 s->offset + (start - s->gpa), end - start, EPT_FILE_COW, NULL,
				 err);
	}
	return r;
}

static int declare_initrd(struct vm *vm, struct foal_error *err)
{
	uint64_t size = page_up(vm->initrd_size);
	uint64_t top = low_end(vm);

	if (!vm->opt->initrd)
		return 0;
	if (size > top || top - size < image_end(&vm->image))
		return error_set(err, FOAL_EXIT_MEMORY, -ENOMEM,
				 "initrd %s: does not fit: %llu KiB above the kernel's end 0x%llx; "
				 "give more --memory",
				 vm->opt->initrd, (unsigned long long)size >> 10,
				 (unsigned long long)image_end(&vm->image));
	vm->initrd_gpa = (top - size) & EPT_PAGE_MASK;
	return declare_file(vm, vm->initrd_fd, vm->opt->initrd, "initrd", GPA(vm->initrd_gpa), 0,
			    vm->initrd_size, EPT_FILE_COW, NULL, err);
}

static int declare_pmems(struct vm *vm, struct foal_error *err)
{
	static const enum ept_file_mode modes[] = {
	    [DISK_RO] = EPT_FILE_RO, [DISK_COW] = EPT_FILE_COW, [DISK_SHARED] = EPT_FILE_SHARED};
	uint64_t next = FOUR_GIB + high_size(vm);
	int r = 0;

	for (unsigned i = 0; i < vm->opt->pmem_count && r == 0; i++) {
		struct vm_file *f = &vm->pmems[i];
		char name[16];

		snprintf(name, sizeof(name), "pmem%u", i);
		next = (next + PMEM_ALIGN - 1) & ~(PMEM_ALIGN - 1);
		f->gpa = GPA(next);
		r = declare_file(vm, f->fd, f->option->path, name, f->gpa, 0, f->size,
				 modes[f->option->mode], &f->area, err);
		next += page_up(f->size);
	}
	return r;
}

int boot_declare(struct vm *vm, struct foal_error *err)
{
	int r = declare_ram(vm, err);

	if (r == 0)
		r = image_open(&vm->image, vm->opt->kernel, low_end(vm), err);
	if (r == 0)
		r = declare_kernel(vm, err);
	if (r == 0)
		r = declare_initrd(vm, err);
	if (r == 0)
		r = declare_pmems(vm, err);
	return r;
}

static int put(struct vm *vm, uint64_t gpa, const void *data, size_t len, struct foal_error *err)
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
	return r ? r : put(vm, from, page, len, err);
}

static int copy_ragged_ends(struct vm *vm, struct foal_error *err)
{
	int r = 0;

	for (unsigned i = 0; i < vm->image.count && r == 0; i++) {
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

/* Device words come first: what follows a "--" in --append belongs to init. */
static int write_cmdline(struct vm *vm, struct foal_error *err)
{
	char line[FOAL_CMDLINE_MAX];
	size_t n = 0;

	for (unsigned i = 0; i < vm->virtio_count; i++)
		n += (size_t)snprintf(line + n, sizeof(line) - n,
				      "virtio_mmio.device=%lu@0x%lx:%u ", FOAL_VIRTIO_MMIO_SIZE,
				      FOAL_VIRTIO_MMIO_BASE + i * FOAL_VIRTIO_MMIO_STRIDE,
				      FOAL_VIRTIO_MMIO_PIN + i);
	size_t extra = strlen(vm->opt->append);
	if (n + extra + 1 > sizeof(line))
		return error_set(err, FOAL_EXIT_USAGE, -E2BIG,
				 "--append: %zu bytes; at most %zu fit beside the device list",
				 extra, sizeof(line) - n - 1);
	memcpy(line + n, vm->opt->append, extra + 1);
	return put(vm, FOAL_CMDLINE, line, n + extra + 1, err);
}

static uint32_t fill_memmap(const struct vm *vm, struct memmap_entry *map)
{
	uint32_t n = 0;

	map[n++] = (struct memmap_entry){0, FOAL_LEGACY_HOLE_START, FOAL_MEMMAP_RAM, 0};
	map[n++] = (struct memmap_entry){FOAL_LEGACY_HOLE_START,
					 FOAL_LEGACY_HOLE_END - FOAL_LEGACY_HOLE_START,
					 FOAL_MEMMAP_RESERVED, 0};
	map[n++] = (struct memmap_entry){FOAL_LEGACY_HOLE_END, low_end(vm) - FOAL_LEGACY_HOLE_END,
					 FOAL_MEMMAP_RAM, 0};
	if (high_size(vm))
		map[n++] = (struct memmap_entry){FOUR_GIB, high_size(vm), FOAL_MEMMAP_RAM, 0};
	for (unsigned i = 0; i < vm->opt->pmem_count; i++)
		map[n++] = (struct memmap_entry){vm->pmems[i].gpa.v, page_up(vm->pmems[i].size),
						 FOAL_MEMMAP_PMEM, 0};
	return n;
}

static int write_start_info(struct vm *vm, struct foal_error *err)
{
	struct memmap_entry map[4 + MAX_FILES];
	struct {
		struct start_info info;
		struct start_module initrd;
	} start = {
	    .info = {.magic = FOAL_PVH_MAGIC,
		     .version = 1,
		     .cmdline = FOAL_CMDLINE,
		     .memmap = FOAL_MEMMAP,
		     .memmap_count = fill_memmap(vm, map)},
	    .initrd = {.gpa = vm->initrd_gpa, .size = vm->initrd_size},
	};

	if (vm->opt->initrd) {
		start.info.module_count = 1;
		start.info.modules = FOAL_START_INFO + sizeof(start.info);
	}
	int r = put(vm, FOAL_START_INFO, &start, sizeof(start), err);
	return r ? r : put(vm, FOAL_MEMMAP, map, start.info.memmap_count * sizeof(map[0]), err);
}

int boot_write(struct vm *vm, struct foal_error *err)
{
	int r = copy_ragged_ends(vm, err);

	if (r == 0)
		r = write_cmdline(vm, err);
	if (r == 0)
		r = write_start_info(vm, err);
	return r;
}
