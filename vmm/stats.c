/* Gathering; the ways to print lie in stats_json.c, stats_table.c and stats_prometheus.c. */
#include "vmm/stats.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices/fw_cfg.h"
#include "ept/stats.h"

bool report_case(const struct report *report, size_t area, enum ept_case c,
		 struct ept_case_stats *out)
{
	ept_area_case_stats(report->vm->space, area, c, out);
	return out->faults != 0;
}

const char *report_area_name(const struct report *report, size_t i)
{
	const struct ept_space *space = report->vm->space;

	return i < ept_area_count(space) ? ept_area_name(ept_area_at(space, i)) : "(no area)";
}

bool report_named_before(const struct report *report, size_t i)
{
	for (size_t j = 0; j < i; j++) {
		if (strcmp(report_area_name(report, j), report_area_name(report, i)) == 0)
			return true;
	}
	return false;
}

static void add_stats(struct ept_case_stats *sum, const struct ept_case_stats *s)
{
#define X(field, name, unit) sum->field += s->field;
	EPT_COUNTERS(X)
#undef X
	for (int o = 0; o < EPT_NR_ORIGINS; o++)
		sum->by_origin[o] += s->by_origin[o];
	sum->latency.count += s->latency.count;
	sum->latency.sum += s->latency.sum;
	if (s->latency.max > sum->latency.max)
		sum->latency.max = s->latency.max;
	for (unsigned i = 0; i < EPT_HIST_BUCKETS; i++)
		sum->latency.bucket[i] += s->latency.bucket[i];
}

void report_sum_case(const struct report *report, size_t first, enum ept_case c,
		     struct ept_case_stats *sum, struct ept_case_stats *one)
{
	memset(sum, 0, sizeof(*sum));
	for (size_t j = first; j <= ept_area_count(report->vm->space); j++) {
		if (strcmp(report_area_name(report, j), report_area_name(report, first)) == 0 &&
		    report_case(report, j, c, one))
			add_stats(sum, one);
	}
}

void report_sum_all(const struct report *report, enum ept_case c, struct ept_case_stats *sum,
		    struct ept_case_stats *one)
{
	memset(sum, 0, sizeof(*sum));
	for (size_t i = 0; i <= ept_area_count(report->vm->space); i++)
		if (report_case(report, i, c, one))
			add_stats(sum, one);
}

static bool in_guest(const struct ept_slot *slots, size_t count, uintptr_t addr)
{
	for (size_t i = 0; i < count; i++) {
		uintptr_t start = (uintptr_t)slots[i].hva;
		if (addr >= start && addr - start < slots[i].size)
			return true;
	}
	return false;
}

/*
 * Split this process's resident memory (proc(5), smaps) into guest memory, by
 * the slots' addresses and the page caches' memfds, and the monitor's own. A page of
 * a cache may be mapped as the cache's and as the guest's: Pss counts it once.
 */
static void read_resident(struct report *report, FILE *smaps)
{
	const struct ept_space *space = report->vm->space;
	size_t count = ept_space_slots(space, NULL, 0);
	struct ept_slot *slots = calloc(count ? count : 1, sizeof(*slots));
	char line[512];
	bool guest = false;

	if (slots && smaps) {
		ept_space_slots(space, slots, count);
		rewind(smaps);
		while (fgets(line, sizeof(line), smaps)) {
			uint64_t start, end, kib;
			if (sscanf(line, "%" SCNx64 "-%" SCNx64 " ", &start, &end) == 2)
				guest = in_guest(slots, count, start) ||
					(strstr(line, "/memfd:") &&
					 !strstr(line, "/memfd:foal-faults"));
			else if (!guest && sscanf(line, "Rss: %" SCNu64, &kib) == 1)
				report->resident_self += kib << 10;
			else if (guest && sscanf(line, "Pss: %" SCNu64, &kib) == 1)
				report->resident_guest += kib << 10;
			else if (guest && sscanf(line, "AnonHugePages: %" SCNu64, &kib) == 1)
				report->resident_huge += kib << 10;
		}
	}
	free(slots);
}

static void add_file(struct report *report, const char *path, const char *use, uint64_t size,
		     uint64_t read)
{
	report->files[report->file_count++] =
	    (struct file_report){.path = path, .use = use, .size = size, .read = read};
}

/* Bytes read through the areas called @prefix..., each byte once. */
static uint64_t area_read(const struct vm *vm, const char *prefix)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < ept_area_count(vm->space); i++) {
		struct ept_area_info info;
		ept_area_info(ept_area_at(vm->space, i), &info);
		if (strncmp(info.name, prefix, strlen(prefix)) == 0)
			sum += info.file_read;
	}
	return sum;
}

/* The ROM lies in memory twice, and its last bytes count once: at least so much was read. */
static uint64_t firmware_rom_read(const struct vm *vm)
{
	uint64_t read = area_read(vm, "firmware");

	return read < vm->firmware.size ? read : vm->firmware.size;
}

/* Bytes of an item of fw_cfg. */
static uint64_t firmware_read(const struct vm *vm, uint16_t key)
{
	return vm->firmware.fw_cfg ? fw_cfg_reached(vm->firmware.fw_cfg, key) : 0;
}

static void read_files(struct report *report)
{
	const struct vm *vm = report->vm;

	if (vm->opt->firmware)
		add_file(report, vm->firmware.path, "firmware", vm->firmware.size,
			 firmware_rom_read(vm));
	if (vm->opt->kernel)
		add_file(report, vm->image.path, "kernel", vm->image.size,
			 vm->image.bytes_read + area_read(vm, "kernel:") +
			     firmware_read(vm, FW_CFG_KERNEL_DATA));
	if (vm->opt->initrd)
		add_file(report, vm->opt->initrd, "initrd", vm->initrd_size,
			 area_read(vm, "initrd") + firmware_read(vm, FW_CFG_INITRD_DATA));
	for (unsigned i = 0; i < vm->opt->disk_count; i++) {
		struct disk_stats stats;
		virtio_blk_stats(vm->disks[i].device, &stats);
		add_file(report, vm->opt->disks[i].path, "disk", stats.file_bytes, stats.file_read);
	}
	for (unsigned i = 0; i < vm->opt->pmem_count; i++) {
		struct ept_area_info info;
		ept_area_info(vm->pmems[i].area, &info);
		add_file(report, vm->opt->pmems[i].path, "pmem", vm->pmems[i].size, info.file_read);
	}
}

static void read_kvm(struct report *report)
{
	const struct vm *vm = report->vm;

	int vm_stats = kvm_stats_open(vm->kvm.vm_fd);

	report->kvm_known = vm_stats >= 0 && kvm_stats_add(&report->kvm, vm_stats) == 0;
	for (unsigned i = 0; i < vm->vcpu_count && report->kvm_known; i++)
		report->kvm_known = kvm_stats_add(&report->kvm, vm->vcpus[i].stats_fd) == 0;
	if (vm_stats >= 0)
		close(vm_stats);
}

/* Without it stdio would ask for the file's block size at the first byte (newfstatat). */
static unsigned given;

static void give_buffer(FILE *file)
{
	static char buffers[3][BUFSIZ];

	if (file && file != stderr)
		setvbuf(file, buffers[given++], _IOFBF, BUFSIZ);
}

FILE *stats_open_smaps(void)
{
	FILE *smaps = fopen("/proc/self/smaps", "re");

	give_buffer(smaps);
	return smaps;
}

static int open_stats_file(struct vm *vm, struct foal_error *err)
{
	int fd = stats_file_open(vm->opt, err);

	vm->stats_out = fd < 0 ? NULL : fdopen(fd, "w");
	if (fd < 0 || vm->stats_out)
		return fd < 0 ? fd : 0;
	close(fd);
	return error_set(err, FOAL_EXIT_HOST, -ENOMEM, "out of memory for statistics");
}

int stats_open(struct vm *vm, struct foal_error *err)
{
	const struct run_options *opt = vm->opt;
	int r;

	vm->stats_out = opt->stats == STATS_JSON ? stdout : stderr;
	if (opt->stats != STATS_OFF)
		vm->smaps = stats_open_smaps();
	if (opt->stats_file && (r = open_stats_file(vm, err)))
		return r;
	give_buffer(vm->stats_out);
	return 0;
}

void stats_close(struct vm *vm)
{
	if (vm->stats_out && vm->opt->stats_file)
		fclose(vm->stats_out);
	if (vm->smaps)
		fclose(vm->smaps);
	vm->stats_out = vm->smaps = NULL;
	given = 0; /* in a process that was forked they are given anew */
}

static int write_report(const struct report *report, struct foal_error *err)
{
	const struct run_options *opt = report->vm->opt;
	FILE *out = report->vm->stats_out;
	int r = opt->stats == STATS_JSON ? stats_json(report, out) : stats_table(report, out);

	if (fflush(out) != 0 && r == 0)
		r = -errno;
	return r ? error_set(err, FOAL_EXIT_HOST, r, "%s: writing the statistics: %s",
			     opt->stats_file ? opt->stats_file : "standard output", strerror(-r))
		 : 0;
}

static void gather(struct report *report, struct vm *vm, FILE *smaps)
{
	report->vm = vm;
	read_resident(report, smaps);
	read_files(report);
	read_kvm(report);
	ept_space_reconcile(vm->space, &report->books);
	ept_space_debt(vm->space, &report->debt);
	report->debt.ns = report_age(report);
}

int stats_report(struct vm *vm, struct foal_error *err)
{
	if (vm->opt->stats == STATS_OFF)
		return 0;
	struct report *report = calloc(1, sizeof(*report));
	if (!report)
		return error_set(err, FOAL_EXIT_HOST, -ENOMEM, "out of memory for statistics");
	report->end_ns = vm->end_ns;
	gather(report, vm, vm->smaps);
	int r = write_report(report, err);
	free(report);
	return r;
}

/* --- of a running VM ------------------------------------------------------------- */

static struct report *gather_now(struct vm *vm, FILE *smaps)
{
	struct report *report = calloc(1, sizeof(*report));

	if (!report)
		return NULL;
	report->running = true;
	report->end_ns = now_ns();
	gather(report, vm, smaps);
	return report;
}

json_t *stats_object(struct vm *vm, FILE *smaps)
{
	struct report *report = gather_now(vm, smaps);
	json_t *o = report ? stats_json_object(report) : NULL;

	free(report);
	return o;
}

static char *text_of(struct vm *vm, FILE *smaps, int (*print)(const struct report *, FILE *))
{
	struct report *report = gather_now(vm, smaps);
	char *text = NULL;
	size_t size;
	FILE *out = report ? open_memstream(&text, &size) : NULL;

	int r = out ? print(report, out) : -ENOMEM;

	if (out)
		fclose(out);
	if (r) {
		free(text);
		text = NULL;
	}
	free(report);
	return text;
}

char *stats_text(struct vm *vm, FILE *smaps)
{
	return text_of(vm, smaps, stats_table);
}

char *stats_metrics(struct vm *vm, FILE *smaps)
{
	return text_of(vm, smaps, stats_prometheus);
}

uint64_t stats_resident(struct vm *vm, FILE *smaps)
{
	struct report *report = calloc(1, sizeof(*report));
	uint64_t bytes = 0;

	if (report) {
		report->vm = vm;
		read_resident(report, smaps);
		bytes = report->resident_guest;
	}
	free(report);
	return bytes;
}
