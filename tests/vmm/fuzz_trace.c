/*
 * Fuzz target: a trace in its binary form, as foal trace reads it, and all that it is turned into.
 * Where sums are to be right the file is made here: a head of any text, or blocks of any records
 * behind a good head. What comes through must be named by the head, and each form must take it.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/trace_file.c" /* its sums: NOLINT(bugprone-suspicious-include) */

#define NEED(truth) \
	do { \
		if (!(truth)) \
			abort(); \
	} while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char good_meta[] =
    "{\"vm\":\"web\",\"cpus\":2,\"memory\":65536,\"main_ns\":5000,\"first_run_ns\":6000,"
    "\"cases\":[\"anon_read\",\"file, \\\"read\\\"\"],\"origins\":[\"vcpu\",\"device\"],"
    "\"areas\":[{\"name\":\"ram\",\"gpa\":0,\"size\":65536,\"file\":\"\"},"
    "{\"name\":\"a,\\\"b\\\" c\",\"gpa\":65536,\"size\":65536,\"file\":\"/f\"}]}";

static void put(int fd, const void *bytes, size_t len)
{
	NEED(write(fd, bytes, len) == (ssize_t)len);
}

/* Returns what the blocks' sums begin with. */
static uint64_t put_head(int fd, const void *meta, size_t len)
{
	struct file_head head = {
	    .magic = MAGIC, .version = TRACE_VERSION, .meta_len = (uint32_t)len};
	uint64_t sum = sum_head(&head, meta, &head.sum);

	put(fd, &head, sizeof(head));
	put(fd, meta, len);
	return sum;
}

static void put_block_of(int fd, uint64_t seed, uint64_t number, struct block_head head,
			 const void *bytes, size_t len)
{
	head.sum = sum_block(seed, number, &head, bytes, len);
	put(fd, &head, sizeof(head));
	put(fd, bytes, len);
}

/* Nearly valid: the smaller numbers are in range but for one value in 16. */
static void tame(struct ept_record *r)
{
	r->area = r->area % 16 > 2 ? r->area % 2 : r->area % 16 == 2 ? EPT_RECORD_NONE : 2;
	r->vcpu = r->vcpu % 16 ? r->vcpu % 2 : EPT_RECORD_NONE;
	r->kase %= r->kase % 16 ? 2 : 3;
	r->origin %= r->origin % 16 ? 2 : 3;
	r->access %= 2;
	r->flags %= 16;
	r->unused = 0;
	r->at >>= 1;
}

static void tame_kvm(struct trace_kvm_record *r)
{
	r->entry >>= r->entry % 16 > 0;
	r->at = r->entry % 16 ? r->at % (r->entry + 1) : r->at;
	r->vcpu %= r->vcpu % 16 ? 2 : 3;
	r->again %= 2;
	r->handled %= 2;
	r->unused = 0;
}

/* As many of KVM's faults as there are records, or what KVM told, made of the same bytes. */
static void put_kvm(int fd, uint64_t seed, uint64_t number, unsigned count, void *bytes)
{
	struct trace_kvm_record *faults = bytes;
	struct trace_kvm_tail *tail = bytes;
	struct block_head head = {.tag = count % 16 ? TAG_KVM : TAG_TOLD,
				  .count = count % 16 ? count : 0};

	for (unsigned i = 0; i < head.count; i++)
		tame_kvm(&faults[i]);
	if (!head.count)
		tail->counted &= 1, tail->missing[TRACE_MISSING_MAX - 1] = 0;
	put_block_of(fd, seed, number, head, bytes,
		     head.count ? head.count * sizeof(*faults) : sizeof(*tail));
}

/* Blocks of up to 127 records, or of KVM's faults; the byte before each says how many. 0: an end.
 */
/* Mostly in range, too. */
static void put_samples_of(int fd, uint64_t seed, uint64_t number, unsigned count, void *bytes)
{
	struct block_head head = {.tag = TAG_SAMPLES, .count = count};
	struct ept_sample *samples = bytes;

	for (unsigned i = 0; i < count; i++) {
		struct ept_sample *s = &samples[i];

		*s = (struct ept_sample){.at = s->at >> 1 | 1,
					 .gpa = s->gpa & EPT_PAGE_MASK,
					 .rip = s->rip,
					 .vcpu = s->vcpu % 32 ? s->vcpu % 2 : 2,
					 .access = s->access % 2,
					 .cpl = s->cpl % 16 ? s->cpl % 4 : s->cpl,
					 .exact = s->exact % 2};
	}
	put_block_of(fd, seed, number, head, samples, count * sizeof(*samples));
}

static void put_blocks(int fd, uint64_t seed, const uint8_t *data, size_t size)
{
	static struct ept_record records[256];
	uint64_t blocks = 0, all = 0;

	while (size) {
		bool of_kvm = *data >> 7, of_samples = size % 5 == 0;
		struct block_head head = {.tag = TAG_RECORDS, .count = *data++ & 127};
		struct end end = {.records = all, .lost = size, .samples_lost = size * 3};
		size_t len = head.count * sizeof(records[0]);

		size--;
		if (!head.count) {
			head.tag = TAG_END;
			put_block_of(fd, seed, blocks++, head, &end, sizeof(end));
			continue;
		}
		memset(records, 0, len);
		memcpy(records, data, len < size ? len : size);
		data += len < size ? len : size;
		size -= len < size ? len : size;
		if (of_kvm) {
			put_kvm(fd, seed, blocks++, head.count, records);
			continue;
		}
		if (of_samples) {
			put_samples_of(fd, seed, blocks++, head.count, records);
			continue;
		}
		for (unsigned i = 0; i < head.count; i++)
			tame(&records[i]);
		put_block_of(fd, seed, blocks++, head, records, len);
		all += head.count;
	}
}

static void make_file(int fd, const uint8_t *data, size_t size)
{
	unsigned kind = size ? *data % 3 : 0;

	data += size > 0;
	size -= size > 0;
	if (kind == 0)
		put(fd, data, size);
	else if (kind == 1)
		put_head(fd, data, size);
	else
		put_blocks(fd, put_head(fd, good_meta, sizeof(good_meta) - 1), data, size);
}

static void give(const struct trace_form *form, void *state, const struct trace_meta *meta,
		 const struct trace_item *item)
{
	switch (item->kind) {
	case TRACE_RECORD:
		NEED(trace_record_is_valid(meta, &item->record));
		if (form->record)
			form->record(state, &item->record);
		break;
	case TRACE_KVM_FAULT:
		NEED(item->fault.vcpu < meta->cpus);
		if (form->kvm_fault)
			form->kvm_fault(state, &item->fault);
		break;
	case TRACE_SAMPLE:
		NEED(item->sample.vcpu < meta->cpus && item->sample.cpl <= 3);
		if (form->sample)
			form->sample(state, &item->sample);
		break;
	}
}

static void turn_into(const struct trace_form *form, const char *path)
{
	struct foal_error err = {.text = ""};
	struct trace_reader reader;
	struct trace_out *out;
	struct trace_item item = {.kind = TRACE_RECORD};
	void *state;
	int r = trace_open_file(&reader, path, &err);

	if (r == 0) {
		NEED(trace_out_open("/dev/null", -1, &out, &err) == 0);
		NEED((state = form->begin(out, &reader.meta)));
		while ((r = trace_next_item(&reader, &item, &err)) == 1)
			give(form, state, &reader.meta, &item);
		if (form->kvm_end && reader.has_told)
			form->kvm_end(state, &reader.told);
		form->end(state, reader.lost);
		NEED(trace_out_error(out) == 0);
		NEED(trace_out_close(out, true, &err) == 0 || r);
	}
	NEED(r == 0 || (err.text[0] && !strchr(err.text, '\n') && err.status == FOAL_EXIT_TRACE));
	trace_close(&reader);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct trace_form *const forms[] = {
	    &trace_chrome,  &trace_csv,	     &trace_binary,	 &trace_summary,
	    &trace_kvm_csv, &trace_rips_csv, &trace_summary_json};
	char path[32];
	int fd = memfd_create("trace", MFD_CLOEXEC);

	NEED(fd >= 0);
	make_file(fd, data, size);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++)
		turn_into(forms[i], path);
	close(fd);
	return 0;
}
