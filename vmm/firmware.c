/*
 * Firmware instead of a loader of ours: a ROM that ends at 4 GiB, where the
 * processor starts, and fw_cfg, which it asks for everything else.
 *
 *   4 GiB - size   the ROM, read-only
 *   1 MiB - 128K   its last 128 KiB once more, writable: on a PC firmware finds
 *                  itself there, and shadows itself in RAM
 *
 * Both are file areas, read where touched. A bzImage and the initrd are read
 * by the firmware through fw_cfg, whole; the segments of an ELF kernel lie in
 * memory already, as they do without firmware.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/fw_cfg.h"
#include "vmm/boot.h"

#define ROM_MAX	       (8u << 20)
#define ROM_SHADOWED   (128u << 10)

/* Where firmware for QEMU puts a bzImage's parts. */
#define SETUP_ADDR     0x10000u
#define SETUP_MAX      0x8000u
#define KERNEL_ADDR    0x100000u

/* SeaBIOS boots a kernel through one of these (QEMU pc-bios/optionrom). */
#define OPTION_ROMS    "/usr/share/qemu/"
#define OPTION_ROM_MAX (64u << 10)
#define LINUXBOOT_ROM  "linuxboot_dma.bin"
#define PVH_ROM	       "pvh.bin"

/* --- the ROM ------------------------------------------------------------------------- */

static const struct {
	const char *word, *path, *package;
	bool boots_disks;
} known[] = {
    {"qboot", "/usr/share/qemu/qboot.rom", "qemu-system-data", false},
    {"seabios", "/usr/share/seabios/bios-microvm.bin", "seabios", true},
};

#define NR_KNOWN (sizeof(known) / sizeof(known[0]))

static int bad_rom(const struct vm *vm, struct foal_error *err, const char *what)
{
	return error_set(err, FOAL_EXIT_KERNEL, -ENOEXEC, "firmware %s: %s", vm->firmware.path,
			 what);
}

int firmware_check(const struct run_options *opt, struct foal_error *err)
{
	for (size_t i = 0; opt->firmware && !opt->kernel && i < NR_KNOWN; i++) {
		if (strcmp(opt->firmware, known[i].word) != 0)
			continue;
		if (!known[i].boots_disks)
			return error_set(err, FOAL_EXIT_USAGE, -EINVAL,
					 "run: --firmware %s boots a kernel: give --kernel FILE",
					 known[i].word);
		if (opt->disk_count == 0)
			return error_set(err, FOAL_EXIT_USAGE, -EINVAL,
					 "run: --firmware %s has nothing to boot: give --disk FILE "
					 "with a boot loader, or --kernel FILE",
					 known[i].word);
	}
	return 0;
}

const char *firmware_path(const struct run_options *opt)
{
	for (size_t i = 0; opt->firmware && i < NR_KNOWN; i++)
		if (strcmp(opt->firmware, known[i].word) == 0)
			return known[i].path;
	return opt->firmware;
}

int firmware_open(struct vm *vm, struct foal_error *err)
{
	struct firmware *fw = &vm->firmware;
	const char *package = NULL;
	struct stat st;

	fw->path = firmware_path(vm->opt);
	for (size_t i = 0; i < NR_KNOWN; i++)
		if (strcmp(vm->opt->firmware, known[i].word) == 0)
			package = known[i].package;
	fw->fd = open(fw->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fw->fd < 0)
		return error_set(err, FOAL_EXIT_KERNEL, -errno, "firmware %s: %s%s%s", fw->path,
				 strerror(errno), package ? "; install Debian's package " : "",
				 package ? package : "");
	if (fstat(fw->fd, &st) || !S_ISREG(st.st_mode))
		return bad_rom(vm, err, "not a regular file");
	fw->size = (uint64_t)st.st_size;
	if (fw->size == 0 || fw->size > ROM_MAX || fw->size % EPT_PAGE_SIZE)
		return bad_rom(vm, err, "a ROM has 4 KiB to 8 MiB, in whole pages of 4 KiB");
	return 0;
}

int firmware_declare(struct vm *vm, struct foal_error *err)
{
	struct firmware *fw = &vm->firmware;
	uint64_t low = fw->size < ROM_SHADOWED ? fw->size : ROM_SHADOWED;
	int r = boot_file_area(vm, fw->fd, fw->path, "firmware", GPA(FOAL_MMIO_GAP_END - fw->size),
			       0, fw->size, EPT_FILE_RO, NULL, err);

	return r ? r
		 : boot_file_area(vm, fw->fd, fw->path, "firmware-low",
				  GPA(FOAL_LEGACY_HOLE_END - low), fw->size - low, low,
				  EPT_FILE_COW, NULL, err);
}

/* --- fw_cfg -------------------------------------------------------------------------- */

struct number {
	uint16_t key;
	uint8_t width;
	uint64_t value;
};

static int add_numbers(struct device *cfg, const struct number *numbers, size_t count)
{
	int r = 0;

	for (size_t i = 0; i < count && r == 0; i++)
		r = fw_cfg_add_number(cfg, numbers[i].key, numbers[i].value, numbers[i].width);
	return r;
}

/* Only RAM: what else there is, firmware knows better. */
static int add_e820(struct vm *vm, struct device *cfg)
{
	const struct boot_e820_entry map[] = {
	    {0, boot_low_end(vm), FOAL_MEMMAP_RAM},
	    {FOAL_MMIO_GAP_END, boot_high_size(vm), FOAL_MEMMAP_RAM},
	};

	return fw_cfg_add_file(cfg, "etc/e820", map,
			       boot_high_size(vm) ? sizeof(map) : sizeof(map[0]));
}

/*
 * No PS/2 keyboard nor display: the console of BIOS calls is the serial line. A
 * machine from which nothing boots resets itself at once, instead of hanging.
 */
static int add_machine(struct vm *vm, struct device *cfg)
{
	const uint64_t console = htole64(FOAL_PORT_COM1), fail_wait = 0;
	const struct number numbers[] = {
	    {FW_CFG_RAM_SIZE, 8, vm->opt->memory},
	    {FW_CFG_NOGRAPHIC, 2, 1},
	    {FW_CFG_NB_CPUS, 2, vm->opt->cpus},
	    {FW_CFG_MAX_CPUS, 2, vm->opt->cpus},
	};
	int r = add_numbers(cfg, numbers, sizeof(numbers) / sizeof(numbers[0]));

	if (r == 0)
		r = add_e820(vm, cfg);
	if (r == 0)
		r = fw_cfg_add_file(cfg, "etc/sercon-port", &console, sizeof(console));
	if (r == 0)
		r = fw_cfg_add_file(cfg, "etc/boot-fail-wait", &fail_wait, 4);
	return r;
}

static int add_cmdline(struct vm *vm, struct device *cfg, struct foal_error *err)
{
	size_t size = strlen(vm->opt->append) + 1;
	const struct number numbers[] = {
	    {FW_CFG_CMDLINE_ADDR, 4, FOAL_CMDLINE},
	    {FW_CFG_CMDLINE_SIZE, 4, size},
	};
	if (size - 1 > vm->image.cmdline_max)
		return error_set(err, FOAL_EXIT_USAGE, -E2BIG,
				 "--append: %zu bytes; this kernel takes at most %u", size - 1,
				 vm->image.cmdline_max);
	int r = add_numbers(cfg, numbers, sizeof(numbers) / sizeof(numbers[0]));

	return r ? r : fw_cfg_add(cfg, FW_CFG_CMDLINE_DATA, vm->opt->append, size);
}

static int add_initrd(struct vm *vm, struct device *cfg)
{
	const struct number numbers[] = {
	    {FW_CFG_INITRD_ADDR, 4, vm->initrd_gpa},
	    {FW_CFG_INITRD_SIZE, 4, vm->initrd_size},
	};
	int r = add_numbers(cfg, numbers, sizeof(numbers) / sizeof(numbers[0]));

	return r || !vm->opt->initrd
		   ? r
		   : fw_cfg_add_range(cfg, FW_CFG_INITRD_DATA, vm->initrd_fd, 0, vm->initrd_size);
}

/* What a loader fills in (linux/Documentation/arch/x86/boot.rst, "obligatory" fields). */
static void fill_setup(const struct vm *vm, unsigned char *setup)
{
	struct setup_header hdr = vm->image.setup;

	hdr.type_of_loader = 0xff;
	hdr.loadflags |= CAN_USE_HEAP;
	hdr.heap_end_ptr = (uint16_t)(FOAL_CMDLINE - SETUP_ADDR - 0x200);
	hdr.cmd_line_ptr = (uint32_t)FOAL_CMDLINE;
	hdr.ramdisk_image = (uint32_t)vm->initrd_gpa;
	hdr.ramdisk_size = (uint32_t)vm->initrd_size;
	memcpy(setup + offsetof(struct boot_params, hdr), &hdr, sizeof(hdr));
}

/* The real-mode part, @size bytes from the file's start, ready to be copied to SETUP_ADDR. */
static int add_setup(struct vm *vm, struct device *cfg, size_t size, struct foal_error *err)
{
	unsigned char setup[SETUP_MAX];
	const struct number numbers[] = {
	    {FW_CFG_SETUP_ADDR, 4, SETUP_ADDR},
	    {FW_CFG_SETUP_SIZE, 4, size},
	};
	int r = image_read(&vm->image, setup, size, 0, err);

	if (r)
		return r;
	if (vm->image.boot == BOOT_LINUX64)
		fill_setup(vm, setup);
	r = add_numbers(cfg, numbers, sizeof(numbers) / sizeof(numbers[0]));
	return r ? r : fw_cfg_add(cfg, FW_CFG_SETUP_DATA, setup, size);
}

static int add_bzimage(struct vm *vm, struct device *cfg, struct foal_error *err)
{
	const struct image_segment *kernel = &vm->image.segments[0];
	const struct number numbers[] = {
	    {FW_CFG_KERNEL_ADDR, 4, KERNEL_ADDR},
	    {FW_CFG_KERNEL_SIZE, 4, kernel->filesz},
	};

	if (kernel->offset > SETUP_MAX)
		return image_bad(&vm->image, err, "its setup code is larger than 32 KiB");
	int r = add_setup(vm, cfg, kernel->offset, err);
	if (r == 0)
		r = add_numbers(cfg, numbers, sizeof(numbers) / sizeof(numbers[0]));
	return r ? r
		 : fw_cfg_add_range(cfg, FW_CFG_KERNEL_DATA, vm->image.fd, kernel->offset,
				    kernel->filesz);
}

/* The segments are in memory: size and data only tell that there is a kernel, and of what kind. */
static int add_elf(struct vm *vm, struct device *cfg, struct foal_error *err)
{
	uint64_t header = vm->image.size < 64 ? vm->image.size : 64;
	const struct number numbers[] = {
	    {FW_CFG_KERNEL_ENTRY, 4, vm->image.entry},
	    {FW_CFG_KERNEL_ADDR, 4, vm->image.segments[0].gpa},
	    {FW_CFG_KERNEL_SIZE, 4, image_end(&vm->image) - vm->image.segments[0].gpa},
	};
	int r = add_setup(vm, cfg, header, err);

	return r ? r : add_numbers(cfg, numbers, sizeof(numbers) / sizeof(numbers[0]));
}

/* SeaBIOS runs the files below genroms/ as option ROMs; this one boots first. */
static int add_option_rom(struct device *cfg, const char *name, struct foal_error *err)
{
	char path[64], file[FW_CFG_NAME_MAX], order[64];
	unsigned char *rom = malloc(OPTION_ROM_MAX);
	ssize_t n = -1;

	snprintf(path, sizeof(path), OPTION_ROMS "%s", name);
	snprintf(file, sizeof(file), "genroms/%s", name);
	int length = snprintf(order, sizeof(order), "/rom@%s\n", file);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0 && rom)
		n = read(fd, rom, OPTION_ROM_MAX);
	int r = n > 0 ? 0 : -ENOENT;
	if (fd >= 0)
		close(fd);
	if (n <= 0)
		error_set(err, FOAL_EXIT_KERNEL, -ENOENT,
			  "firmware: %s: cannot be read; install Debian's package qemu-system-data",
			  path);
	else if ((r = fw_cfg_add_file(cfg, file, rom, (size_t)n)) == 0)
		r = fw_cfg_add_file(cfg, "bootorder", order, (size_t)length + 1);
	free(rom);
	return r;
}

static int add_kernel(struct vm *vm, struct device *cfg, struct foal_error *err)
{
	bool elf = vm->image.boot == BOOT_PVH;
	int r = elf ? add_elf(vm, cfg, err) : add_bzimage(vm, cfg, err);

	if (r == 0)
		r = add_cmdline(vm, cfg, err);
	if (r == 0)
		r = add_initrd(vm, cfg);
	return r ? r : add_option_rom(cfg, elf ? PVH_ROM : LINUXBOOT_ROM, err);
}

int firmware_configure(struct vm *vm, struct foal_error *err)
{
	struct device *cfg;
	int r = fw_cfg_create(&vm->host, &cfg);

	if (r == 0)
		r = bus_attach(vm->pio, cfg, FOAL_PORT_FW_CFG, FOAL_PORT_FW_CFG_LEN);
	if (r == 0) {
		vm->firmware.fw_cfg = cfg;
		r = add_machine(vm, cfg);
	}
	if (r == 0)
		r = acpi_fw_cfg(vm, cfg, err);
	if (r == 0 && vm->opt->kernel)
		r = add_kernel(vm, cfg, err);
	/* The first error told is the one that is heard. */
	return r ? error_set(err, FOAL_EXIT_HOST, r, "device fw_cfg: %s", strerror(-r)) : 0;
}
