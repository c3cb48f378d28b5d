#include "vmm/image.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_NOTES (64u << 10)

static int bad(struct image *image, struct foal_error *err, const char *what)
{
	return error_set(err, FOAL_EXIT_KERNEL, -ENOEXEC, "kernel %s: %s", image->path, what);
}

/* The file may be cut short at any time, so its size at the start proves nothing. */
int image_read(struct image *image, void *buf, size_t len, uint64_t offset, struct foal_error *err)
{
	if (offset > image->size || len > image->size - offset)
		return bad(image, err, "cut short: its headers point behind its end");
	ssize_t n;
	do {
		n = pread(image->fd, buf, len, (off_t)offset);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return error_set(err, FOAL_EXIT_KERNEL, -errno, "kernel %s: read at byte %llu: %s",
				 image->path, (unsigned long long)offset, strerror(errno));
	image->bytes_read += (uint64_t)n;
	return (size_t)n == len ? 0 : bad(image, err, "cut short while it was read");
}

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

static int read_note(struct image *image, const Elf64_Phdr *ph, bool *found, struct foal_error *err)
{
	if (ph->p_filesz > MAX_NOTES)
		return bad(image, err, "its notes are too long");
	unsigned char *notes = malloc(ph->p_filesz + 1);
	if (!notes)
		return error_set(err, FOAL_EXIT_HOST, -ENOMEM, "out of memory for kernel notes");
	int r = image_read(image, notes, ph->p_filesz, ph->p_offset, err);
	if (r == 0 && !*found)
		*found = find_pvh_note(notes, ph->p_filesz, &image->entry);
	free(notes);
	return r;
}

static int add_segment(struct image *image, const Elf64_Phdr *ph, uint64_t ram_end,
		       struct foal_error *err)
{
	if (ph->p_memsz == 0)
		return 0;
	if (ph->p_filesz > ph->p_memsz)
		return bad(image, err, "a segment is larger in the file than in memory");
	if (ph->p_offset > image->size || ph->p_filesz > image->size - ph->p_offset)
		return bad(image, err, "cut short: a segment lies behind its end");
	if (ph->p_paddr < FOAL_LEGACY_HOLE_END)
		return bad(image, err, "a segment lies below 1 MiB, where boot information goes");
	if (ph->p_paddr > ram_end || ph->p_memsz > ram_end - ph->p_paddr)
		return error_set(
		    err, FOAL_EXIT_MEMORY, -ENOMEM,
		    "kernel %s: does not fit: it needs memory from 0x%llx on, %llu KiB "
		    "of it, low memory ends at 0x%llx; give more --memory",
		    image->path, (unsigned long long)ph->p_paddr,
		    (unsigned long long)ph->p_memsz >> 10, (unsigned long long)ram_end);
	if (image->count == IMAGE_MAX_SEGMENTS)
		return bad(image, err, "more than 16 segments");
	if (image->count && ph->p_paddr < image_end(image))
		return bad(image, err, "segments overlap or are not in ascending order");
	image->segments[image->count++] = (struct image_segment){
	    .offset = ph->p_offset,
	    .gpa = ph->p_paddr,
	    .filesz = ph->p_filesz,
	    .memsz = ph->p_memsz,
	    .flags = ph->p_flags,
	};
	return 0;
}

static int read_headers(struct image *image, uint64_t ram_end, struct foal_error *err)
{
	Elf64_Ehdr eh = {0};
	bool found = false;
	int r = image_read(image, &eh, sizeof(eh), 0, err);

	if (r)
		return r;
	if (memcmp(eh.e_ident, ELFMAG, SELFMAG) != 0)
		return bad(image, err, "not an ELF file; give a vmlinux or foal's kernel.elf");
	if (eh.e_ident[EI_CLASS] != ELFCLASS64 || eh.e_ident[EI_DATA] != ELFDATA2LSB ||
	    eh.e_machine != EM_X86_64)
		return bad(image, err, "not a 64-bit x86 kernel");
	if (eh.e_phentsize != sizeof(Elf64_Phdr) || eh.e_phnum == 0 || eh.e_phnum == PN_XNUM)
		return bad(image, err, "no program headers");
	for (unsigned i = 0; i < eh.e_phnum && r == 0; i++) {
		Elf64_Phdr ph = {0};
		if (eh.e_phoff > image->size)
			return bad(image, err, "cut short: its headers point behind its end");
		r = image_read(image, &ph, sizeof(ph), eh.e_phoff + i * sizeof(ph), err);
		if (r == 0 && ph.p_type == PT_LOAD)
			r = add_segment(image, &ph, ram_end, err);
		else if (r == 0 && ph.p_type == PT_NOTE)
			r = read_note(image, &ph, &found, err);
	}
	if (r)
		return r;
	if (image->count == 0)
		return bad(image, err, "nothing to load");
	if (!found)
		return bad(image, err, "no PVH entry point (a Linux kernel needs CONFIG_PVH)");
	return 0;
}

static int check_entry(struct image *image, struct foal_error *err)
{
	for (unsigned i = 0; i < image->count; i++) {
		const struct image_segment *s = &image->segments[i];
		if (image->entry >= s->gpa && image->entry - s->gpa < s->memsz)
			return 0;
	}
	return bad(image, err, "its entry point lies outside every segment");
}

int image_open(struct image *image, const char *path, uint64_t ram_end, struct foal_error *err)
{
	struct stat st;

	*image = (struct image){.fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), .path = path};
	if (image->fd < 0)
		return error_set(err, FOAL_EXIT_KERNEL, -errno, "kernel %s: %s", path,
				 strerror(errno));
	int r = 0;
	if (fstat(image->fd, &st) || !S_ISREG(st.st_mode))
		r = bad(image, err, "not a regular file");
	image->size = (uint64_t)st.st_size;
	if (r == 0)
		r = read_headers(image, ram_end, err);
	if (r == 0)
		r = check_entry(image, err);
	if (r)
		image_close(image);
	return r;
}

void image_close(struct image *image)
{
	if (image->fd >= 0)
		close(image->fd);
	image->fd = -1;
}

uint64_t image_end(const struct image *image)
{
	if (image->count == 0)
		return 0;
	const struct image_segment *last = &image->segments[image->count - 1];
	return last->gpa + last->memsz;
}
