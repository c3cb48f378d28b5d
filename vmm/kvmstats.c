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
