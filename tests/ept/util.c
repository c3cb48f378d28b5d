#include "tests/ept/util.h"

#include "ept/stats.h"
#include "ept/uffd_compat.h"
#include "tests/ept/records.h"
#include "tests/scratch.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>

bool vm_without_atomic_protect, vm_without_move;

const struct ept_config one_thread = {.vm_name = "test", .vcpus = 1, .log = true};

AS_VCPU uint8_t pattern_byte(uint64_t i)
{
	return (uint8_t)((i * 0x9e3779b97f4a7c15UL >> 56) | 1); /* never 0, no short period */
}

AS_VCPU bool has_pattern(const volatile void *p, uint64_t at, size_t len)
{
	const volatile uint8_t *bytes = p;

	for (size_t i = 0; i < len; i++)
		if (bytes[i] != pattern_byte(at + i))
			return false;
	return true;
}

AS_VCPU int temp_file(uint64_t size)
{
	static uint8_t buf[1 << 16];
	int fd = scratch_file();

	for (uint64_t at = 0; at < size; at += sizeof(buf)) {
		size_t len = size - at < sizeof(buf) ? size - at : sizeof(buf);

		for (size_t i = 0; i < len; i++)
			buf[i] = pattern_byte(at + i);
		ck_assert_int_eq(syscall(SYS_pwrite64, fd, buf, len, at), len);
	}
	return fd;
}

bool file_has(int fd, uint64_t at, const void *bytes, size_t len)
{
	char *buf = malloc(len);
	bool same = syscall(SYS_pread64, fd, buf, len, at) == (long)len && !memcmp(buf, bytes, len);

	free(buf);
	return same;
}

struct vm vm_begin(const struct ept_config *config, const char *name, struct ept_object *obj,
		   uint64_t size)
{
	struct vm vm = {.size = size, .fd = -1};

	ck_assert_int_eq(ept_space_create(config, &vm.space), 0);
	if (vm_without_atomic_protect)
		vm.space->installer.atomic_protect = false;
	if (vm_without_move)
		vm.space->installer.features &= ~(uint64_t)UFFD_FEATURE_MOVE;
	ck_assert_int_eq(ept_area_add(vm.space, name, GPA(0), size, obj, &vm.area), 0);
	return vm;
}

void vm_start(struct vm *vm)
{
	struct ept_slot slot;

	ck_assert_int_eq(ept_space_start(vm->space), 0);
	ck_assert_uint_eq(ept_space_slots(vm->space, &slot, 1), 1);
	vm->hva = slot.hva;
	ept_vcpu_bind(vm->space, 0, gettid());
}

struct vm vm_create(const struct ept_config *config, int fd, uint64_t offset, uint64_t size,
		    enum ept_file_mode mode)
{
	struct ept_object *obj = NULL;
	struct vm vm;

	if (fd >= 0)
		ck_assert_int_eq(ept_object_file(fd, "disk.img", offset, size, mode, &obj), 0);
	vm = vm_begin(config, obj ? "pmem0" : "ram", obj, (size + PAGE - 1) & ~(PAGE - 1));
	ept_object_put(obj);
	vm_start(&vm);
	return vm;
}

struct vm vm_anon(uint64_t size)
{
	return vm_create(&one_thread, -1, 0, size, EPT_FILE_COW);
}

struct vm vm_file_with(const struct ept_config *config, uint64_t size, enum ept_file_mode mode)
{
	int fd = temp_file(size);
	struct vm vm = vm_create(config, fd, 0, size, mode);

	vm.fd = fd;
	return vm;
}

struct vm vm_file(uint64_t size, enum ept_file_mode mode)
{
	return vm_file_with(&one_thread, size, mode);
}

void vm_destroy(struct vm *vm)
{
	ept_space_stop(vm->space);
	ck_assert_uint_eq(event_faults(vm->space), events(vm->space));
	expect_records_are_counters(vm->space);
	ept_space_destroy(vm->space);
	if (vm->fd >= 0)
		close(vm->fd);
}

bool is_asleep(pid_t tid)
{
	char path[64], state = 0;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
	FILE *f = fopen(path, "r");
	if (f && fscanf(f, "%*d (%*[^)]) %c", &state) != 1)
		state = 0;
	if (f)
		fclose(f);
	return state == 'S';
}

void discard(const struct vm *vm, uint64_t first, uint64_t pages)
{
	uint64_t given;

	ck_assert_int_eq(ept_discard_anonymous(vm->space, GPA(first * PAGE), pages * PAGE, &given),
			 0);
	ck_assert_uint_eq(given, pages * PAGE);
}

struct ept_case_stats case_stats(const struct vm *vm, enum ept_case c)
{
	struct ept_case_stats stats;

	ept_area_case_stats(vm->space, 0, c, &stats);
	return stats;
}

uint64_t faults(const struct vm *vm, enum ept_case c)
{
	return case_stats(vm, c).faults;
}

/* Who touched is woken before the entry is counted: wait for the handler to leave the leaf. */
static void settle(const struct vm *vm)
{
	for (uint64_t gpa = 0; gpa < vm->size; gpa += EPT_LEAF_BYTES) {
		struct ept_leaf *leaf = ept_mirror_find(&vm->space->mirror, GPA(gpa));

		if (leaf) {
			pthread_mutex_lock(&leaf->lock);
			pthread_mutex_unlock(&leaf->lock);
		}
	}
}

struct ept_area_info area_info(const struct vm *vm)
{
	struct ept_area_info info;

	settle(vm);
	ept_area_info(vm->area, &info);
	return info;
}

struct ept_ahead_stats ahead_stats(const struct vm *vm)
{
	struct ept_ahead_stats stats;

	ept_area_ahead_stats(vm->area, &stats);
	return stats;
}

uint64_t file_bytes_read(const struct vm *vm)
{
	uint64_t sum = ahead_stats(vm).bytes_read;

	for (int c = 0; c < EPT_NR_CASES; c++)
		sum += case_stats(vm, (enum ept_case)c).bytes_read;
	return sum;
}

uint64_t event_faults(const struct ept_space *space)
{
	uint64_t sum = 0;

	for (size_t area = 0; area <= ept_area_count(space); area++)
		for (int c = 0; c < EPT_NR_CASES; c++) {
			struct ept_case_stats stats;

			ept_area_case_stats(space, area, (enum ept_case)c, &stats);
			sum += stats.by_origin[EPT_ORIGIN_VCPU] + stats.by_origin[EPT_ORIGIN_KVM];
		}
	return sum;
}

uint64_t events(const struct ept_space *space)
{
	uint64_t by_origin[EPT_NR_ORIGINS];

	ept_space_events(space, by_origin);
	return by_origin[EPT_ORIGIN_VCPU] + by_origin[EPT_ORIGIN_KVM];
}

enum ept_result fault_as(const struct vm *vm, uint64_t page, enum ept_access access,
			 enum ept_origin origin, unsigned flags, struct ept_resolution *res)
{
	struct ept_request req = {.gpa = GPA(page * PAGE),
				  .access = access,
				  .origin = origin,
				  .flags = flags,
				  .picked_up = ept_now()};

	return handle_ept_fault(vm->space, &req, res);
}

const struct first_touch first_touches[FIRST_TOUCHES] = {
    {EPT_FILE_RO, EPT_READ},	 {EPT_FILE_COW, EPT_READ},     {EPT_FILE_COW, EPT_WRITE},
    {EPT_FILE_SHARED, EPT_READ}, {EPT_FILE_SHARED, EPT_WRITE},
};

bool waits_in_transit(const struct vm *vm)
{
	bool waits = false;

	pthread_mutex_lock(&vm->space->watch_lock);
	for (const struct ept_pending *p = vm->space->pending; p; p = p->next)
		waits |= __atomic_load_n(&p->wait, __ATOMIC_RELAXED) == EPT_WAIT_TRANSIT;
	pthread_mutex_unlock(&vm->space->watch_lock);
	return waits;
}
