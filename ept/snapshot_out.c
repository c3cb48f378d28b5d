/* A snapshot's memory, written to its two files; what cannot be written is one line. */
#include "ept/snapshot_out.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STEP_EXTENTS 512

int ept_out_say(const struct ept_out *out, int err, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(out->why, out->why_size, fmt, args);
	va_end(args);
	return err;
}

static int write_at(const struct ept_out *out, int fd, const void *buf, size_t len, uint64_t at)
{
	const char *p = buf;

	while (len) {
		ssize_t n = pwrite(fd, p, len, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			int err = n ? -errno : -ENOSPC;

			return ept_out_say(out, err,
					   "%s: cannot write the snapshot's memory: %s; nothing of "
					   "it is kept",
					   out->name, strerrordesc_np(-err));
		}
		p += n;
		at += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

/* --- areas and extents ---------------------------------------------------------------------- */

void ept_out_area(struct ept_out *out, uint64_t gpa, uint64_t size, uint32_t flags)
{
	/* Mapped as it is, a huge page's worth of the file is one of the guest's. */
	if (!out->zstd)
		out->end += (gpa - out->end) % EPT_LEAF_BYTES;
	out->areas[out->nr_areas++] = (struct ept_index_area){
	    .gpa = gpa, .size = size, .offset = out->zstd ? 0 : out->end, .flags = flags};
	if (!out->zstd)
		out->end += size;
}

/* The runs of present pages, each where it belongs. */
static int write_plain(struct ept_out *out, struct ept_index_extent *e, const char *bytes)
{
	const struct ept_index_area *area = &out->areas[out->nr_areas - 1];
	int err = 0;

	e->offset = area->offset + (e->gpa - area->gpa);
	e->stored = e->pages * (uint32_t)EPT_PAGE_SIZE;
	for (unsigned i = 0, run = 0; i <= e->pages && !err; i++) {
		if (i < e->pages && e->present >> i & 1)
			continue;
		if (run < i)
			err = write_at(out, out->options->memory_fd, bytes + run * EPT_PAGE_SIZE,
				       (i - run) * EPT_PAGE_SIZE, e->offset + run * EPT_PAGE_SIZE);
		out->info->stored_bytes += (i - run) * EPT_PAGE_SIZE;
		run = i + 1;
	}
	return err;
}

static int write_packed(struct ept_out *out, struct ept_index_extent *e, char *bytes)
{
	const char *from = out->packed;
	size_t len = 0, small;
	int err;

	for (unsigned i = 0; i < e->pages; i++)
		if (e->present >> i & 1) {
			memmove(bytes + len, bytes + i * EPT_PAGE_SIZE, EPT_PAGE_SIZE);
			len += EPT_PAGE_SIZE;
		}
	e->flags = EPT_EXTENT_PACKED | EPT_EXTENT_ZSTD;
	small = ZSTD_compressCCtx(out->zstd, out->packed, out->packed_size, bytes, len,
				  out->options->zstd_level);
	if (ZSTD_isError(small) || small >= len) {
		e->flags = EPT_EXTENT_PACKED;
		from = bytes;
		small = len;
	}
	e->offset = out->end;
	e->stored = (uint32_t)small;
	err = write_at(out, out->options->memory_fd, from, small, out->end);
	out->end += small;
	out->info->stored_bytes += small;
	return err;
}

static int add_extent(struct ept_out *out, const struct ept_index_extent *e)
{
	if (out->nr_extents == out->max_extents) {
		uint64_t max = out->max_extents * 2 + STEP_EXTENTS;
		struct ept_index_extent *more = realloc(out->extents, max * sizeof(*more));

		if (!more)
			return ept_out_say(out, -ENOMEM, "%s: no memory for the snapshot's index",
					   out->name);
		out->extents = more;
		out->max_extents = max;
	}
	out->extents[out->nr_extents++] = *e;
	out->info->pages += (uint64_t)__builtin_popcount(e->present);
	out->info->zero_pages += (uint64_t)__builtin_popcount(e->zero);
	return 0;
}

int ept_out_extent(struct ept_out *out, struct ept_index_extent *e, char *bytes)
{
	int err = out->zstd ? write_packed(out, e, bytes) : write_plain(out, e, bytes);

	return err ? err : add_extent(out, e);
}

/* --- the index ---------------------------------------------------------------------------- */

static int write_index(struct ept_out *out, const uint8_t parent[16])
{
	size_t areas = out->nr_areas * sizeof(*out->areas),
	       extents = out->nr_extents * sizeof(*out->extents);
	struct ept_index_header h = {.magic = EPT_INDEX_MAGIC,
				     .version = EPT_INDEX_VERSION,
				     .extent = EPT_EXTENT,
				     .areas = out->nr_areas,
				     .extents = out->nr_extents,
				     .memory_bytes = out->end};
	char *all = malloc(sizeof(h) + areas + extents);
	int err;

	if (!all)
		return ept_out_say(out, -ENOMEM, "%s: no memory for the snapshot's index",
				   out->name);
	memcpy(h.id, out->options->id, sizeof(h.id));
	memcpy(h.parent, parent, sizeof(h.parent));
	memcpy(all + sizeof(h), out->areas, areas);
	if (extents)
		memcpy(all + sizeof(h) + areas, out->extents, extents);
	h.table = ept_checksum(all + sizeof(h), areas + extents);
	h.sum = ept_checksum(&h, offsetof(struct ept_index_header, sum));
	memcpy(all, &h, sizeof(h));
	err = write_at(out, out->options->index_fd, all, sizeof(h) + areas + extents, 0);
	free(all);
	out->info->index_bytes = sizeof(h) + areas + extents;
	out->info->memory_bytes = out->end;
	out->info->extents = out->nr_extents;
	return err;
}

static int make_durable(const struct ept_out *out)
{
	int err = 0;

	if (ftruncate(out->options->memory_fd, (off_t)out->end) ||
	    fdatasync(out->options->memory_fd) || fdatasync(out->options->index_fd))
		err = ept_out_say(out, -errno,
				  "%s: the snapshot's memory does not get to the disk: %s",
				  out->name, strerrordesc_np(errno));
	return err;
}

int ept_out_finish(struct ept_out *out, const uint8_t parent[16])
{
	int err = write_index(out, parent);

	return err ? err : make_durable(out);
}

/* --- the whole -------------------------------------------------------------------------------- */

int ept_out_init(struct ept_out *out, const struct ept_snapshot_options *options, const char *name,
		 size_t areas, struct ept_snapshot_info *info, char *why, size_t size)
{
	*info = (struct ept_snapshot_info){0};
	*out = (struct ept_out){
	    .options = options, .info = info, .name = name, .why = why, .why_size = size};
	out->areas = calloc(areas + 1, sizeof(*out->areas));
	if (options->zstd_level) {
		out->packed_size = ZSTD_compressBound(EPT_EXTENT);
		out->packed = malloc(out->packed_size);
		out->zstd = ZSTD_createCCtx();
	}
	if (out->areas && (!options->zstd_level || (out->packed && out->zstd)))
		return 0;
	return ept_out_say(out, -ENOMEM, "%s: no memory to write a snapshot with", name);
}

void ept_out_free(struct ept_out *out)
{
	ZSTD_freeCCtx(out->zstd);
	free(out->packed);
	free(out->areas);
	free(out->extents);
}
