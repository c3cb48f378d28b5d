/*
 * A trace in its binary form: a head (magic, version, what the numbers stand for), blocks of
 * records, of samples, of faults that KVM told of, and of what else it told, an end. Every block's
 * checksum begins with the head's and its own number, so that none passes for another's.
 */
#include "vmm/trace_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "vmm/trace_kvm_file.h"
#include "vmm/trace_out.h"

#define MAGIC	    "foalFALT"
#define TAG_RECORDS 0x53434552U /* "RECS" */
#define TAG_KVM	    0x464d564bU /* "KVMF" */
#define TAG_SAMPLES 0x504d4153U /* "SAMP" */
#define TAG_TOLD    0x544d564bU /* "KVMT" */
#define TAG_END	    0x21444e45U /* "END!" */

struct file_head {
	char magic[8];
	uint32_t version;
	uint32_t meta_len;	/* bytes of JSON that follow */
	XXH128_canonical_t sum; /* of what stands before, and of that */
};

struct block_head {
	uint32_t tag;
	uint32_t count; /* of records or faults; else 0 */
	uint64_t sum;	/* of tag, count and what follows */
};

/* What follows the head of the last block; before version 4 without the last. */
struct end {
	uint64_t records, lost, samples_lost;
};

#define END_SIZE_3 offsetof(struct end, samples_lost)

_Static_assert(sizeof(struct ept_record) == 56 && sizeof(struct file_head) == 32 &&
		   sizeof(struct block_head) == 16 && sizeof(struct end) == 24,
	       "docs/formats.md");

/* --- checksums ------------------------------------------------------------------------- */

/* 0: no memory; that of a head is never 0. */
static uint64_t sum_head(const struct file_head *head, const void *meta, XXH128_canonical_t *out)
{
	XXH3_state_t *state = XXH3_createState();

	if (!state)
		return 0;
	XXH3_128bits_reset(state);
	XXH3_128bits_update(state, head, offsetof(struct file_head, sum));
	XXH3_128bits_update(state, meta, head->meta_len);
	XXH128_hash_t hash = XXH3_128bits_digest(state);
	XXH3_freeState(state);
	XXH128_canonicalFromHash(out, hash);
	return hash.low64 | 1;
}

static uint64_t sum_block(uint64_t seed, uint64_t number, const struct block_head *head,
			  const void *bytes, size_t len)
{
	uint64_t before = XXH3_64bits_withSeed(head, offsetof(struct block_head, sum), seed);

	return XXH3_64bits_withSeed(bytes, len, before + number);
}

/* --- writing --------------------------------------------------------------------------- */

struct writer {
	struct trace_out *out;
	uint64_t sum, blocks, records;
	unsigned count, faults, samples;
	struct ept_record block[TRACE_BLOCK_MAX];
	struct trace_kvm_record kvm[TRACE_BLOCK_MAX];
	struct ept_sample sample[TRACE_BLOCK_MAX];
};

static void put_block(struct writer *w, uint32_t tag, unsigned count, const void *bytes, size_t len)
{
	struct block_head head = {.tag = tag, .count = count};

	head.sum = sum_block(w->sum, w->blocks++, &head, bytes, len);
	trace_out_bytes(w->out, &head, sizeof(head));
	trace_out_bytes(w->out, bytes, len);
}

static void put_records(struct writer *w)
{
	if (w->count)
		put_block(w, TAG_RECORDS, w->count, w->block, w->count * sizeof(w->block[0]));
	w->count = 0;
}

static void put_faults(struct writer *w)
{
	if (w->faults)
		put_block(w, TAG_KVM, w->faults, w->kvm, w->faults * sizeof(w->kvm[0]));
	w->faults = 0;
}

static void put_samples(struct writer *w)
{
	if (w->samples)
		put_block(w, TAG_SAMPLES, w->samples, w->sample, w->samples * sizeof(w->sample[0]));
	w->samples = 0;
}

static void *binary_begin(struct trace_out *out, const struct trace_meta *meta)
{
	struct file_head head = {.magic = MAGIC, .version = TRACE_VERSION};
	struct writer *w = calloc(1, sizeof(*w));
	char *text = json_dumps(meta->json, JSON_COMPACT);

	if (w && text) {
		head.meta_len = (uint32_t)strlen(text);
		w->sum = sum_head(&head, text, &head.sum);
		w->out = out;
		trace_out_bytes(out, &head, sizeof(head));
		trace_out_bytes(out, text, head.meta_len);
	}
	free(text);
	if (!w || !w->sum) {
		free(w);
		return NULL;
	}
	return w;
}

static void binary_record(void *form, const struct ept_record *record)
{
	struct writer *w = form;

	w->block[w->count++] = *record;
	w->records++;
	if (w->count == TRACE_BLOCK_MAX)
		put_records(w);
}

static void binary_sample(void *form, const struct ept_sample *sample)
{
	struct writer *w = form;

	w->sample[w->samples++] = *sample;
	if (w->samples == TRACE_BLOCK_MAX)
		put_samples(w);
}

static void binary_kvm_fault(void *form, const struct kvm_fault *fault)
{
	struct writer *w = form;

	trace_kvm_record_of(fault, &w->kvm[w->faults++]);
	if (w->faults == TRACE_BLOCK_MAX)
		put_faults(w);
}

static void binary_kvm_end(void *form, const struct trace_kvm_told *told)
{
	struct trace_kvm_tail tail;
	struct writer *w = form;

	put_records(w);
	put_samples(w);
	put_faults(w);
	trace_kvm_tail_of(told, &tail);
	put_block(w, TAG_TOLD, 0, &tail, sizeof(tail));
}

static void binary_end(void *form, struct trace_lost lost)
{
	struct writer *w = form;
	struct end end = {
	    .records = w->records, .lost = lost.records, .samples_lost = lost.samples};

	put_records(w);
	put_samples(w);
	put_faults(w);
	put_block(w, TAG_END, 0, &end, sizeof(end));
	free(w);
}

const struct trace_form trace_binary = {
    .name = "binary",
    .begin = binary_begin,
    .record = binary_record,
    .sample = binary_sample,
    .kvm_fault = binary_kvm_fault,
    .kvm_end = binary_kvm_end,
    .end = binary_end,
};

/* --- reading ------------------------------------------------------------------------------ */

static int refuse(const struct trace_reader *reader, int error, const char *what,
		  struct foal_error *err)
{
	return error_set(err, FOAL_EXIT_TRACE, error, "%s: %s", reader->path, what);
}

/* Behind the head: say how far it can be used, too. */
static int give_up(const struct trace_reader *reader, int error, const char *what,
		   struct foal_error *err)
{
	return error_set(err, FOAL_EXIT_TRACE, error,
			 "%s: %s; the %llu records before that are whole", reader->path, what,
			 (unsigned long long)(reader->records));
}

/* How many bytes there were, fewer only at the end; or a negative errno. */
static ssize_t read_all(int fd, void *to, size_t len)
{
	size_t at = 0;

	while (at < len) {
		ssize_t n = read(fd, (char *)to + at, len - at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		at += (size_t)n;
	}
	return (ssize_t)at;
}

static int take_meta(struct trace_reader *reader, const struct file_head *head, char *text,
		     struct foal_error *err)
{
	XXH128_canonical_t sum;
	const char *why = NULL;
	ssize_t n = read_all(reader->fd, text, head->meta_len);

	if (n < 0)
		return refuse(reader, (int)n, strerror((int)-n), err);
	if (n < (ssize_t)head->meta_len)
		return refuse(reader, -EBADMSG, "cut short within its head", err);
	reader->version = head->version;
	reader->sum = sum_head(head, text, &sum);
	if (!reader->sum)
		return error_set(err, FOAL_EXIT_HOST, -ENOMEM, "out of memory");
	if (memcmp(&sum, &head->sum, sizeof(sum)) != 0)
		return refuse(reader, -EBADMSG, "damaged: its head's checksum is wrong", err);
	int r = trace_meta_take(json_loadb(text, head->meta_len, JSON_REJECT_DUPLICATES, NULL),
				&reader->meta, &why);
	if (r == -ENOMEM)
		return error_set(err, FOAL_EXIT_HOST, r, "out of memory");
	return r ? error_set(err, FOAL_EXIT_TRACE, r, "%s: %s in its head is missing or wrong",
			     reader->path, why)
		 : 0;
}

static int take_head(struct trace_reader *reader, struct foal_error *err)
{
	struct file_head head;
	ssize_t n = read_all(reader->fd, &head, sizeof(head));

	if (n < 0)
		return refuse(reader, (int)n, strerror((int)-n), err);
	if (n < (ssize_t)sizeof(head.magic) || memcmp(head.magic, MAGIC, sizeof(head.magic)) != 0)
		return refuse(reader, -EINVAL, "no trace in foal's binary form", err);
	if (n < (ssize_t)sizeof(head))
		return refuse(reader, -EBADMSG, "cut short within its head", err);
	if (head.version == 0 || head.version > TRACE_VERSION)
		return error_set(err, FOAL_EXIT_TRACE, -EINVAL,
				 "%s: version %u is not known, this foal reads up to %u",
				 reader->path, head.version, TRACE_VERSION);
	if (head.meta_len > TRACE_META_MAX)
		return refuse(reader, -EINVAL, "damaged: its head is longer than any", err);
	char *text = malloc(head.meta_len + 1);
	int r = text ? take_meta(reader, &head, text, err)
		     : error_set(err, FOAL_EXIT_HOST, -ENOMEM, "out of memory");
	free(text);
	return r;
}

int trace_open_file(struct trace_reader *reader, const char *path, struct foal_error *err)
{
	struct stat st;

	*reader = (struct trace_reader){.path = path};
	reader->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (reader->fd < 0)
		return refuse(reader, -errno, strerror(errno), err);
	if (fstat(reader->fd, &st) || !S_ISREG(st.st_mode))
		return refuse(reader, -EINVAL, "not a regular file", err);
	reader->block = calloc(TRACE_BLOCK_MAX, sizeof(struct ept_record));
	if (!reader->block)
		return error_set(err, FOAL_EXIT_HOST, -ENOMEM, "out of memory");
	return take_head(reader, err);
}

/* @head's bytes into @to. */
static int take_body(struct trace_reader *reader, const struct block_head *head, void *to,
		     size_t len, struct foal_error *err)
{
	ssize_t n = read_all(reader->fd, to, len);

	if (n < 0)
		return give_up(reader, (int)n, strerror((int)-n), err);
	if (n < (ssize_t)len)
		return give_up(reader, -EBADMSG, "cut short", err);
	if (sum_block(reader->sum, reader->blocks, head, to, len) != head->sum)
		return give_up(reader, -EBADMSG, "damaged: a checksum is wrong", err);
	reader->blocks++;
	return 0;
}

static int take_end(struct trace_reader *reader, const struct block_head *head,
		    struct foal_error *err)
{
	struct end end = {0};
	char more;
	int r = take_body(reader, head, &end, reader->version < 4 ? END_SIZE_3 : sizeof(end), err);

	if (r)
		return r;
	reader->ended = true;
	reader->lost = (struct trace_lost){end.lost, end.samples_lost};
	if (end.lost > INT64_MAX || end.samples_lost > INT64_MAX)
		return give_up(reader, -EINVAL, "its end says that more were lost than can be",
			       err);
	if (end.records != reader->records || head->count)
		return give_up(reader, -EINVAL, "its end says another number of records", err);
	if (read_all(reader->fd, &more, 1) != 0)
		return give_up(reader, -EINVAL, "something follows its end", err);
	return 0;
}

/* What KVM told, once, behind its faults. */
static int take_told(struct trace_reader *reader, const struct block_head *head,
		     struct foal_error *err)
{
	int r = take_body(reader, head, reader->block, sizeof(struct trace_kvm_tail), err);

	if (r)
		return r;
	if (head->count || !trace_kvm_tail_take(reader->block, &reader->told))
		return give_up(reader, -EINVAL, "what KVM told has values that there are not", err);
	reader->has_told = true;
	return 0;
}

static size_t size_of(uint32_t tag)
{
	return tag == TAG_KVM ? sizeof(struct trace_kvm_record) : sizeof(struct ept_record);
}

/* Item @i of the block; false: it has values that there are not. */
static bool take_item(const struct trace_reader *reader, unsigned i, struct trace_item *out)
{
	if (reader->tag == TAG_KVM) {
		const struct trace_kvm_record *all = reader->block;
		out->kind = TRACE_KVM_FAULT;
		return trace_kvm_record_take(&reader->meta, &all[i], &out->fault);
	}
	if (reader->tag == TAG_SAMPLES) {
		out->kind = TRACE_SAMPLE;
		out->sample = ((const struct ept_sample *)reader->block)[i];
		return trace_sample_is_valid(&reader->meta, &out->sample);
	}
	out->kind = TRACE_RECORD;
	out->record = ((const struct ept_record *)reader->block)[i];
	return trace_record_is_valid(&reader->meta, &out->record);
}

static int take_items(struct trace_reader *reader, const struct block_head *head,
		      struct foal_error *err)
{
	struct trace_item item;
	int r = take_body(reader, head, reader->block, head->count * size_of(head->tag), err);

	reader->tag = head->tag;
	for (unsigned i = 0; r == 0 && i < head->count; i++)
		if (!take_item(reader, i, &item))
			r = give_up(reader, -EINVAL, "a record has values that there are not", err);
	if (r)
		return r;
	reader->count = head->count;
	reader->at = 0;
	reader->records += head->tag == TAG_RECORDS ? head->count : 0;
	return 0;
}

/* The first version that has such items; UINT32_MAX: none. */
static uint32_t version_of(uint32_t tag)
{
	return tag == TAG_RECORDS ? 1 : tag == TAG_KVM ? 2 : tag == TAG_SAMPLES ? 3 : UINT32_MAX;
}

static int take_block(struct trace_reader *reader, struct foal_error *err)
{
	struct block_head head;
	ssize_t n = read_all(reader->fd, &head, sizeof(head));

	if (n < 0)
		return give_up(reader, (int)n, strerror((int)-n), err);
	if (n < (ssize_t)sizeof(head))
		return give_up(reader, -EBADMSG, "cut short", err);
	if (head.tag == TAG_END)
		return take_end(reader, &head, err);
	if (reader->has_told)
		return give_up(reader, -EINVAL, "no end follows what KVM told", err);
	if (head.tag == TAG_TOLD && reader->version > 1)
		return take_told(reader, &head, err);
	if (reader->version < version_of(head.tag) || head.count == 0 ||
	    head.count > TRACE_BLOCK_MAX)
		return give_up(reader, -EBADMSG, "damaged: no block begins there", err);
	return take_items(reader, &head, err);
}

int trace_next_item(struct trace_reader *reader, struct trace_item *out, struct foal_error *err)
{
	while (reader->at == reader->count && !reader->ended) {
		int r = take_block(reader, err);
		if (r)
			return r;
	}
	if (reader->at == reader->count)
		return 0;
	take_item(reader, reader->at++, out);
	return 1;
}

int trace_next(struct trace_reader *reader, struct ept_record *out, struct foal_error *err)
{
	struct trace_item item = {.kind = TRACE_RECORD};
	int r;

	do
		r = trace_next_item(reader, &item, err);
	while (r == 1 && item.kind != TRACE_RECORD);
	if (r == 1)
		*out = item.record;
	return r;
}

void trace_close(struct trace_reader *reader)
{
	if (reader->fd >= 0)
		close(reader->fd);
	free(reader->block);
	trace_meta_free(&reader->meta);
	reader->fd = -1;
	reader->block = NULL;
}
