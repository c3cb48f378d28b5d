/* A kernel as an ELF file: foal's own, or a vmlinux. */
#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/image.h"

/* Far more than kernels have; a file must not make the start long. */
#define MAX_HEADERS 64
#define MAX_NOTES   (64u << 10)

/*
 * The note that holds the 32-bit entry point. Its name and description are
 * padded to 4 bytes each (gABI); the description is 4 or 8 bytes long.
 */
static bool find_pvh_note(const unsigned char *notes, size_t size, uint32_t *entry)
{
	size_t at = 0;

	while (size - at >= sizeof(Elf64_Nhdr)) {
		Elf64_Nhdr n;
		memcpy(&n, notes + at, sizeof(n));
		at += sizeof(n);
		uint64_t name = ((uint64_t)n.n_namesz + 3) & ~3ULL;
		uint64_t desc = ((uint64_t)n.n_descsz + 3) & ~3ULL;
		if (name > size - at || desc > size - at - name)
			return false;
		if (n.n_type == FOAL_PVH_NOTE_TYPE && n.n_namesz == 4 &&
		    memcmp(notes + at, "Xen", 4) == 0 && (n.n_descsz == 4 || n.n_descsz == 8)) {
			memcpy(entry, notes + at + name, 4);
			return true;
		}
		at += name + desc;
	}
	return false;
}

static int read_note(struct image *image, const Elf64_Phdr *ph, bool *found, uint32_t *entry,
		     struct foal_error *err)
{
	if (ph->p_filesz > MAX_NOTES)
		return image_bad(image, err, "its notes are too long");
	unsigned char *notes = malloc(ph->p_filesz + 1);
	if (!notes)
		return error_set(err, FOAL_EXIT_HOST, -ENOMEM, "out of memory for kernel notes");
	int r = image_read(image, notes, ph->p_filesz, ph->p_offset, err);
	if (r == 0 && !*found)
		*found = find_pvh_note(notes, ph->p_filesz, entry);
	free(notes);
	return r;
}

static int add_segment(struct image *image, const Elf64_Phdr *ph, uint64_t ram_end,
		       struct foal_error *err)
{
	struct image_segment segment = {
	    .offset = ph->p_offset,
	    .gpa = ph->p_paddr,
	    .filesz = ph->p_filesz,
	    .memsz = ph->p_memsz,
	    .flags = ph->p_flags,
	};

	return ph->p_memsz ? image_add(image, &segment, ram_end, err) : 0;
}

static int check_header(struct image *image, const Elf64_Ehdr *eh, struct foal_error *err)
{
	if (eh->e_ident[EI_CLASS] != ELFCLASS64 || eh->e_ident[EI_DATA] != ELFDATA2LSB ||
	    eh->e_machine != EM_X86_64)
		return image_bad(image, err, "not a 64-bit x86 kernel");
	if (eh->e_phentsize != sizeof(Elf64_Phdr) || eh->e_phnum == 0 || eh->e_phnum == PN_XNUM)
		return image_bad(image, err, "no program headers");
	if (eh->e_phnum > MAX_HEADERS)
		return image_bad(image, err, "more than 64 program headers");
	if (eh->e_phoff > image->size)
		return image_bad(image, err, "cut short: its headers point behind its end");
	return 0;
}

int image_elf(struct image *image, enum boot_protocol boot, uint64_t ram_end,
	      struct foal_error *err)
{
	Elf64_Ehdr eh = {0};
	bool found = false;
	uint32_t pvh_entry = 0;
	int r = image_read(image, &eh, sizeof(eh), 0, err);

	if (r == 0)
		r = check_header(image, &eh, err);
	for (unsigned i = 0; r == 0 && i < eh.e_phnum; i++) {
		Elf64_Phdr ph = {0};

		r = image_read(image, &ph, sizeof(ph), eh.e_phoff + i * sizeof(ph), err);
		if (r == 0 && ph.p_type == PT_LOAD)
			r = add_segment(image, &ph, ram_end, err);
		else if (r == 0 && ph.p_type == PT_NOTE)
			r = read_note(image, &ph, &found, &pvh_entry, err);
	}
	if (r)
		return r;
	if (image->count == 0)
		return image_bad(image, err, "nothing to load");
	if (!found && boot == BOOT_PVH)
		return image_bad(image, err,
				 "no PVH entry point (a Linux kernel needs CONFIG_PVH)");
	image->boot = found && boot != BOOT_LINUX64 ? BOOT_PVH : BOOT_LINUX64;
	image->entry = image->boot == BOOT_PVH ? pvh_entry : eh.e_entry;
	return 0;
}
