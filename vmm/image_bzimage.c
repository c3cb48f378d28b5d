/*
 * A kernel as a bzImage (linux/Documentation/arch/x86/boot.rst):
 *
 *   sector 0                boot sector; the setup header lies in it from 0x1f1
 *   setup_sects sectors     real-mode code, unused here
 *   the rest                protected-mode code, loaded as one segment: a small
 *                           decompressor, entered 0x200 bytes in, and the kernel
 *
 * The decompressor works in place: init_size bytes from where it was loaded
 * are the kernel's.
 */
#include <elf.h>
#include <errno.h>

#include "vmm/image.h"

#define SECTOR		512
#define DEFAULT_SECTORS 4     /* what setup_sects = 0 means */
#define OLDEST_PROTOCOL 0x20c /* xloadflags, which say that there is a 64-bit entry */
#define ENTRY_64	0x200
#define SYSSIZE_UNIT	16

static int check_header(struct image *image, const struct setup_header *h, uint64_t size,
			struct foal_error *err)
{
	if (h->version < OLDEST_PROTOCOL)
		return image_bad(image, err,
				 "boot protocol older than 2.12 (Linux 3.8); such a kernel boots "
				 "only with --firmware");
	if (!(h->xloadflags & XLF_KERNEL_64) || !(h->loadflags & LOADED_HIGH))
		return image_bad(image, err, "no 64-bit entry point: not a 64-bit kernel");
	if (size <= ENTRY_64 || (uint64_t)h->syssize * SYSSIZE_UNIT >= size + SYSSIZE_UNIT)
		return image_bad(image, err, "cut short: its setup header promises more");
	if (h->payload_offset > size || h->payload_length > size - h->payload_offset)
		return image_bad(image, err, "its compressed part lies outside of it");
	if (h->kernel_alignment & (h->kernel_alignment - 1))
		return image_bad(image, err, "its alignment is no power of two");
	if (h->cmdline_size == 0)
		return image_bad(image, err, "takes no command line");
	return 0;
}

/*
 * The address it was built for if it fits there. Elsewhere a relocatable
 * kernel would have to be aligned, and move down from there is all that can help.
 */
static uint64_t load_address(const struct setup_header *h, uint64_t need, uint64_t ram_end)
{
	uint64_t align = h->kernel_alignment;
	uint64_t lowest = FOAL_LEGACY_HOLE_END;
	bool fits = h->pref_address <= ram_end && need <= ram_end - h->pref_address;

	if (!h->relocatable_kernel || align == 0)
		return h->pref_address;
	if (fits && h->pref_address >= lowest && h->pref_address % align == 0)
		return h->pref_address;
	return (lowest + align - 1) & ~(align - 1);
}

int image_bzimage(struct image *image, const struct setup_header *h, uint64_t ram_end,
		  struct foal_error *err)
{
	uint64_t sectors = 1 + (h->setup_sects ? h->setup_sects : DEFAULT_SECTORS);
	uint64_t offset = sectors * SECTOR;

	if (offset >= image->size)
		return image_bad(image, err, "cut short: nothing behind its setup code");
	uint64_t size = image->size - offset;
	int r = check_header(image, h, size, err);
	if (r)
		return r;

	uint64_t need = h->init_size > size ? h->init_size : size;
	struct image_segment segment = {
	    .offset = offset,
	    .gpa = load_address(h, need, ram_end),
	    .filesz = size,
	    .memsz = need,
	    .flags = PF_R | PF_W | PF_X,
	};
	r = image_add(image, &segment, ram_end, err);
	if (r)
		return r;
	image->setup = *h;
	image->boot = BOOT_LINUX64;
	image->entry = segment.gpa + ENTRY_64;
	if ((uint64_t)h->initrd_addr_max + 1 < image->initrd_end)
		image->initrd_end = (uint64_t)h->initrd_addr_max + 1;
	if (h->cmdline_size < image->cmdline_max)
		image->cmdline_max = h->cmdline_size;
	return 0;
}
