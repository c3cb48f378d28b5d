/* What every format of a kernel has in common: a file that is read with care, and segments. */
#include "vmm/image.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BZIMAGE_MAGIC 0x53726448 /* "HdrS" */

int image_bad(struct image *image, struct foal_error *err, const char *what)
{
	return error_set(err, FOAL_EXIT_KERNEL, -ENOEXEC, "kernel %s: %s", image->path, what);
}

/* The file may be cut short at any time, so its size at the start proves nothing. */
int image_read(struct image *image, void *buf, size_t len, uint64_t offset, struct foal_error *err)
{
	if (offset > image->size || len > image->size - offset)
		return image_bad(image, err, "cut short: its headers point behind its end");
	ssize_t n;
	do {
		n = pread(image->fd, buf, len, (off_t)offset);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return error_set(err, FOAL_EXIT_KERNEL, -errno, "kernel %s: read at byte %llu: %s",
				 image->path, (unsigned long long)offset, strerror(errno));
	image->bytes_read += (uint64_t)n;
	return (size_t)n == len ? 0 : image_bad(image, err, "cut short while it was read");
}

int image_add(struct image *image, const struct image_segment *s, uint64_t ram_end,
	      struct foal_error *err)
{
	if (s->filesz > s->memsz)
		return image_bad(image, err, "a segment is larger in the file than in memory");
	if (s->offset > image->size || s->filesz > image->size - s->offset)
		return image_bad(image, err, "cut short: a segment lies behind its end");
	if (s->gpa < FOAL_LEGACY_HOLE_END)
		return image_bad(image, err,
				 "a segment lies below 1 MiB, where boot information goes");
	if (s->gpa > ram_end || s->memsz > ram_end - s->gpa)
		return error_set(
		    err, FOAL_EXIT_MEMORY, -ENOMEM,
		    "kernel %s: does not fit: it needs memory from 0x%llx on, %llu KiB "
		    "of it, low memory ends at 0x%llx; give more --memory",
		    image->path, (unsigned long long)s->gpa, (unsigned long long)s->memsz >> 10,
		    (unsigned long long)ram_end);
	if (image->count == IMAGE_MAX_SEGMENTS)
		return image_bad(image, err, "more than 16 segments");
	if (image->count && s->gpa < image_end(image))
		return image_bad(image, err, "segments overlap or are not in ascending order");
	image->segments[image->count++] = *s;
	return 0;
}

static int check_entry(struct image *image, struct foal_error *err)
{
	for (unsigned i = 0; i < image->count; i++) {
		const struct image_segment *s = &image->segments[i];
		if (image->entry >= s->gpa && image->entry - s->gpa < s->memsz)
			return 0;
	}
	return image_bad(image, err, "its entry point lies outside every segment");
}

static int open_regular(struct image *image, struct foal_error *err)
{
	struct stat st;

	image->fd = open(image->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (image->fd < 0)
		return error_set(err, FOAL_EXIT_KERNEL, -errno, "kernel %s: %s", image->path,
				 strerror(errno));
	if (fstat(image->fd, &st) || !S_ISREG(st.st_mode))
		return image_bad(image, err, "not a regular file");
	image->size = (uint64_t)st.st_size;
	return 0;
}

static int read_format(struct image *image, enum boot_protocol boot, uint64_t ram_end,
		       struct foal_error *err)
{
	unsigned char magic[SELFMAG];
	struct setup_header setup;
	int r = image_read(image, magic, sizeof(magic), 0, err);

	if (r)
		return r;
	if (memcmp(magic, ELFMAG, SELFMAG) == 0)
		return image_elf(image, boot, ram_end, err);
	if (image->size >= offsetof(struct boot_params, hdr) + sizeof(setup)) {
		r = image_read(image, &setup, sizeof(setup), offsetof(struct boot_params, hdr),
			       err);
		if (r)
			return r;
		if (setup.boot_flag == 0xaa55 && setup.header == BZIMAGE_MAGIC)
			return boot == BOOT_PVH
				   ? image_bad(image, err,
					       "a bzImage has no PVH entry point; give the vmlinux "
					       "inside it, or --boot linux64")
				   : image_bzimage(image, &setup, ram_end, err);
	}
	return image_bad(image, err, "neither a bzImage (vmlinuz) nor an ELF file (vmlinux)");
}

int image_open(struct image *image, const char *path, enum boot_protocol boot, uint64_t ram_end,
	       struct foal_error *err)
{
	*image = (struct image){
	    .fd = -1, .path = path, .initrd_end = ram_end, .cmdline_max = FOAL_CMDLINE_MAX - 1};
	int r = open_regular(image, err);

	if (r == 0)
		r = read_format(image, boot, ram_end, err);
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
