#include "vmm/kvmstats.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static struct kvm_stat *find(struct kvm_stats *stats, const char *name)
{
	for (unsigned i = 0; i < stats->count; i++) {
		if (strcmp(stats->stat[i].name, name) == 0)
			return &stats->stat[i];
	}
	if (stats->count == KVM_STATS_MAX)
		return NULL;
	struct kvm_stat *s = &stats->stat[stats->count++];
	s->value = 0;
	snprintf(s->name, sizeof(s->name), "%s", name);
	return s;
}

static int read_all(int fd, void *buf, size_t len, uint64_t offset)
{
	ssize_t n = pread(fd, buf, len, (off_t)offset);

	return n == (ssize_t)len ? 0 : n < 0 ? -errno : -EIO;
}

int kvm_stats_add(struct kvm_stats *stats, int fd)
{
	struct kvm_stats_header head;
	int r = read_all(fd, &head, sizeof(head), 0);

	if (r)
		return r;
	size_t step = sizeof(struct kvm_stats_desc) + head.name_size;
	char *descs = malloc(step * head.num_desc);
	if (!descs)
		return -ENOMEM;
	r = read_all(fd, descs, step * head.num_desc, head.desc_offset);
	for (uint32_t i = 0; i < head.num_desc && r == 0; i++) {
		struct kvm_stats_desc *d = (struct kvm_stats_desc *)(descs + i * step);
		uint64_t value;
		if (d->size != 1)
			continue; /* a histogram */
		r = read_all(fd, &value, sizeof(value), head.data_offset + d->offset);
		struct kvm_stat *s = find(stats, d->name);
		if (r == 0 && s)
			s->value += value;
	}
	free(descs);
	return r;
}

/* Counts of one VM or vCPU lie together. */
#define PICK_BYTES 1024
#define NAME_MOST  256

static void pick_one(struct kvm_pick *pick, const struct kvm_stats_desc *d, uint32_t at,
		     const char *const names[], unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		if (d->size != 1 || strcmp(d->name, names[i]) != 0)
			continue;
		pick->at[i] = at;
		pick->first = at < pick->first ? at : pick->first;
		pick->end =
		    at + sizeof(uint64_t) > pick->end ? at + (uint32_t)sizeof(uint64_t) : pick->end;
	}
}

/*
 * Some at a time: each read is a system call at every VM's start, and what all of them take would
 * stay with each of many copies of a VM.
 */
#define PICK_BLOCK 1024

static int pick_block(struct kvm_pick *pick, int fd, const struct kvm_stats_header *head,
		      uint32_t first, const char *const names[], unsigned count)
{
	_Alignas(struct kvm_stats_desc) char block[PICK_BLOCK];
	size_t step = sizeof(struct kvm_stats_desc) + head->name_size;
	size_t fit = sizeof(block) / step, left = head->num_desc - first;
	size_t n = left < fit ? left : fit;
	int r = read_all(fd, block, n * step, head->desc_offset + first * step);

	for (size_t i = 0; r == 0 && i < n; i++) {
		const struct kvm_stats_desc *d =
		    (const struct kvm_stats_desc *)(const void *)(block + i * step);

		pick_one(pick, d, head->data_offset + d->offset, names, count);
	}
	return r ? r : (int)n;
}

int kvm_stats_pick(struct kvm_pick *pick, int fd, const char *const names[], unsigned count)
{
	struct kvm_stats_header head;
	int r = count > KVM_PICK_MAX ? -EINVAL : read_all(fd, &head, sizeof(head), 0);

	*pick = (struct kvm_pick){.first = UINT32_MAX};
	memset(pick->at, 0xff, sizeof(pick->at));
	if (r == 0 && (head.name_size > NAME_MOST || head.name_size % sizeof(uint64_t)))
		r = -EINVAL;
	for (uint32_t i = 0; r >= 0 && i < head.num_desc; i += (uint32_t)r)
		r = pick_block(pick, fd, &head, i, names, count);
	if (r < 0)
		return r;
	if (pick->first > pick->end)
		pick->first = pick->end;
	for (unsigned i = 0; i < KVM_PICK_MAX; i++)
		pick->at[i] -= pick->at[i] == UINT32_MAX ? 0 : pick->first;
	return pick->end - pick->first > PICK_BYTES ? -EINVAL : 0;
}

int kvm_stats_read(const struct kvm_pick *pick, int fd, uint64_t values[], unsigned count)
{
	char bytes[PICK_BYTES];
	int r = read_all(fd, bytes, pick->end - pick->first, pick->first);

	for (unsigned i = 0; i < count; i++) {
		values[i] = 0;
		if (r == 0 && pick->at[i] != UINT32_MAX)
			memcpy(&values[i], bytes + pick->at[i], sizeof(values[i]));
	}
	return r;
}

int kvm_stats_open(int kvm_fd)
{
	int fd = ioctl(kvm_fd, KVM_GET_STATS_FD, NULL);

	return fd < 0 ? -errno : fd;
}

uint64_t kvm_stats_get(const struct kvm_stats *stats, const char *name)
{
	for (unsigned i = 0; i < stats->count; i++) {
		if (strcmp(stats->stat[i].name, name) == 0)
			return stats->stat[i].value;
	}
	return 0;
}
