/*
 * Fuzz target: a kernel file. Two bytes choose the protocol, how much RAM there
 * is, and whether the rest, the file, is given the marks of a bzImage or an ELF
 * file, which chance finds too seldom. What is let in must keep the promises of
 * vmm/image.h.
 */
#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/image.h"

#define MAX_FILE (64u << 10)

#define NEED(truth) \
	do { \
		if (!(truth)) \
			abort(); \
	} while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void mark_bzimage(uint8_t *file, size_t size)
{
	struct setup_header hdr;
	size_t at = offsetof(struct boot_params, hdr);

	if (size < at + sizeof(hdr))
		return;
	memcpy(&hdr, file + at, sizeof(hdr));
	hdr.boot_flag = 0xaa55;
	hdr.header = 0x53726448;
	hdr.version |= 0x200;
	hdr.loadflags |= LOADED_HIGH;
	hdr.xloadflags |= XLF_KERNEL_64;
	memcpy(file + at, &hdr, sizeof(hdr));
}

static void mark_elf(uint8_t *file, size_t size)
{
	Elf64_Ehdr eh;

	if (size < sizeof(eh))
		return;
	memcpy(&eh, file, sizeof(eh));
	memcpy(eh.e_ident, ELFMAG, SELFMAG);
	eh.e_ident[EI_CLASS] = ELFCLASS64;
	eh.e_ident[EI_DATA] = ELFDATA2LSB;
	eh.e_machine = EM_X86_64;
	eh.e_phentsize = sizeof(Elf64_Phdr);
	eh.e_phnum &= 7;
	eh.e_phoff &= 0xff;
	memcpy(file, &eh, sizeof(eh));
}

static void check_image(const struct image *image, uint64_t ram_end)
{
	uint64_t end = FOAL_LEGACY_HOLE_END;
	bool entered = false;

	NEED(image->count >= 1 && image->count <= IMAGE_MAX_SEGMENTS);
	for (unsigned i = 0; i < image->count; i++) {
		const struct image_segment *s = &image->segments[i];

		NEED(s->gpa >= end && s->gpa <= ram_end && s->memsz <= ram_end - s->gpa);
		NEED(s->filesz <= s->memsz);
		NEED(s->offset <= image->size && s->filesz <= image->size - s->offset);
		entered |= image->entry >= s->gpa && image->entry - s->gpa < s->memsz;
		end = s->gpa + s->memsz;
	}
	NEED(entered && image_end(image) == end);
	NEED(image->boot == BOOT_PVH || image->boot == BOOT_LINUX64);
	NEED(image->initrd_end <= ram_end && image->cmdline_max < FOAL_CMDLINE_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t file[MAX_FILE];
	static char path[32];
	static int fd = -1;
	struct foal_error err = {0};
	struct image image;

	if (size < 2 || size - 2 > MAX_FILE)
		return 0;
	if (fd < 0) {
		fd = memfd_create("kernel", MFD_CLOEXEC);
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	}
	enum boot_protocol boot = data[0] % 3;
	uint64_t ram_end = (uint64_t)(1 + data[1]) << 20;
	size -= 2;
	memcpy(file, data + 2, size);
	if (data[0] & 0x40)
		mark_bzimage(file, size);
	if (data[0] & 0x80)
		mark_elf(file, size);
	NEED(ftruncate(fd, 0) == 0 && pwrite(fd, file, size, 0) == (ssize_t)size);
	if (image_open(&image, path, boot, ram_end, &err) == 0) {
		check_image(&image, ram_end);
		NEED(boot == BOOT_AUTO || image.boot == boot);
	} else {
		NEED(err.status != 0 && err.text[0] && image.fd < 0);
	}
	image_close(&image);
	return 0;
}
