#include "tests/restore/life.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE	  4096
#define MAX_SLOTS 64
#define MAX_ARGS  40

bool have_kvm(void)
{
	struct kvm kvm = {.dev_fd = -1, .vm_fd = -1};
	struct foal_error err = {0};
	int r = kvm_open(&kvm, &err);

	kvm_close(&kvm);
	if (r)
		printf("SKIP: %s\n", err.text);
	return r == 0;
}

/* --- one VM -------------------------------------------------------------------------- */

static struct vm *build(struct life *life, const struct vm_restore *restore)
{
	struct vm *vm = calloc(1, sizeof(*vm));
	struct foal_error err = {0};

	vm->opt = &life->opt;
	vm->restore = restore;
	vm->console_out = life->out;
	vm->main_ns = now_ns();
	ck_assert_msg(vm_begun(vm, &err) == 0 && vm_build(vm, &err) == 0, "%s", err.text);
	return vm;
}

static void start(struct vm *vm)
{
	struct foal_error err = {0};

	ck_assert_msg(vm_start(vm, &err) == 0, "%s", err.text);
}

static void destroy(struct vm *vm)
{
	int unwritten;

	vm_end(vm, 0, NULL);
	ck_assert(vm_stop(vm, &unwritten));
	vm_destroy(vm);
	free(vm);
}

/* Stands in for the memory of a snapshot. Zeros that are zeros already stay as they are. */
struct copy {
	struct ept_slot slots[MAX_SLOTS];
	size_t n;
	uint8_t *bytes[MAX_SLOTS];
};

static void copy_pages(uint8_t *to, const uint8_t *from, uint64_t size)
{
	for (uint64_t at = 0; at < size; at += PAGE)
		if (memcmp(to + at, from + at, PAGE) != 0)
			memcpy(to + at, from + at, PAGE);
}

static void copy_out(struct vm *vm, struct copy *copy)
{
	copy->n = ept_space_slots(vm->space, copy->slots, MAX_SLOTS);
	ck_assert_uint_le(copy->n, MAX_SLOTS);
	for (size_t i = 0; i < copy->n; i++) {
		const struct ept_slot *slot = &copy->slots[i];

		copy->bytes[i] = mmap(NULL, slot->size, PROT_READ | PROT_WRITE,
				      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		ck_assert(copy->bytes[i] != MAP_FAILED);
		copy_pages(copy->bytes[i], slot->hva, slot->size);
	}
}

static void copy_in(struct vm *vm, struct copy *copy)
{
	struct ept_slot slots[MAX_SLOTS];

	ck_assert_uint_eq(ept_space_slots(vm->space, slots, MAX_SLOTS), copy->n);
	for (size_t i = 0; i < copy->n; i++) {
		ck_assert_uint_eq(slots[i].gpa.v, copy->slots[i].gpa.v);
		ck_assert_uint_eq(slots[i].size, copy->slots[i].size);
		if (!slots[i].read_only)
			copy_pages(slots[i].hva, copy->bytes[i], slots[i].size);
		munmap(copy->bytes[i], slots[i].size);
	}
}

/* --- lives ----------------------------------------------------------------------------- */

void life_begin(struct life *life, char **argv)
{
	char *args[MAX_ARGS] = {"run"};
	struct foal_error err = {0};
	int argc = 1;

	*life = (struct life){.out = memfd_create("console", 0)};
	while (*argv && argc < MAX_ARGS - 3)
		args[argc++] = *argv++;
	args[argc++] = "--sandbox";
	args[argc++] = "off";
	optind = 0;
	ck_assert_msg(options_parse(argc, args, &life->opt, &err) == 0, "%s", err.text);
	life->vm = build(life, NULL);
	start(life->vm);
}

/* Until the run ends or @us have passed. */
static bool runs_for(struct vm *vm, unsigned us)
{
	struct pollfd fd = {.fd = vm->end.fd, .events = POLLIN};
	struct timespec time = {us / 1000000, us % 1000000 * 1000L};

	return ppoll(&fd, 1, &time, NULL) == 0;
}

/* False: the run ends. */
static bool pause_vm(struct vm *vm)
{
	struct foal_error err = {0};
	uint64_t took;
	int r = vm_pause(vm, PAUSE_LIMIT_NS, &took, &err);

	ck_assert_msg(r == 0 || r == -ESHUTDOWN, "%s", err.text);
	return r == 0;
}

static void resume_vm(struct vm *vm)
{
	struct foal_error err = {0};
	uint64_t paused;

	ck_assert_msg(vm_resume(vm, &paused, &err) == 0, "%s", err.text);
}

static void save_state(struct vm *vm, uint8_t **bytes, size_t *len)
{
	struct foal_error err = {0};

	ck_assert_msg(vm_state_save(vm, bytes, len, &err) == 0, "%s", err.text);
}

static void save_disks(struct vm *vm, int layers[MAX_FILES])
{
	struct foal_error err = {0};

	ck_assert_int_eq(vm_disks_freeze(vm, &err), 0);
	for (unsigned i = 0; i < vm->opt->disk_count; i++) {
		layers[i] = -1;
		if (vm->opt->disks[i].mode != DISK_COW)
			continue;
		layers[i] = memfd_create("layer", 0);
		ck_assert_int_eq(virtio_blk_save_layers(vm->disks[i].device, layers[i]), 0);
	}
}

bool life_back(struct life *life, unsigned us)
{
	struct vm *vm = life->vm;
	struct foal_error err = {0};
	struct copy copy;
	uint8_t *state;
	size_t len;
	bool runs;

	if (!pause_vm(vm))
		return false;
	save_state(vm, &state, &len);
	copy_out(vm, &copy);
	resume_vm(vm);
	runs = runs_for(vm, us) && pause_vm(vm);
	if (runs) {
		copy_in(vm, &copy);
		free((void *)life->restore.state);
		life->restore = (struct vm_restore){.state = state, .len = len};
		ck_assert_msg(vm_state_reload(vm, &life->restore, &err) == 0, "%s", err.text);
		resume_vm(vm);
		life->rebirths++;
	}
	return runs;
}

void life_save(struct life *life, uint8_t **bytes, size_t *len)
{
	ck_assert(pause_vm(life->vm));
	save_state(life->vm, bytes, len);
	destroy(life->vm);
	life->vm = NULL;
}

void life_try(struct life *life, const uint8_t *bytes, size_t len, char line[480])
{
	struct vm_restore restore = {.state = bytes, .len = len};
	struct vm *vm = calloc(1, sizeof(*vm));
	struct foal_error err = {0};
	int unwritten;
	bool built;

	vm->opt = &life->opt;
	vm->restore = &restore;
	vm->console_out = life->out;
	vm->main_ns = now_ns();
	built = vm_begun(vm, &err) == 0 && vm_build(vm, &err) == 0;
	if (built && vm_start(vm, &err) == 0)
		(void)runs_for(vm, 20000);
	vm_end(vm, 0, NULL);
	if (built)
		ck_assert(vm_stop(vm, &unwritten));
	vm_destroy(vm);
	free(vm);
	ck_assert(err.status == 0 || err.status == FOAL_EXIT_SNAPSHOT);
	memcpy(line, err.text, sizeof(err.text));
}

void life_leave(struct life *life)
{
	options_free(&life->opt);
	close(life->out);
}

bool life_again(struct life *life, unsigned us)
{
	struct vm *old = life->vm;
	struct copy copy;
	int layers[MAX_FILES];
	uint8_t *state = NULL;
	size_t len = 0;

	if (!runs_for(old, us) || !pause_vm(old))
		return false;
	save_state(old, &state, &len);
	save_disks(old, layers);
	free((void *)life->restore.state);
	life->restore = (struct vm_restore){.state = state, .len = len, .layers = layers};
	copy_out(old, &copy);
	destroy(old);
	life->vm = build(life, &life->restore);
	copy_in(life->vm, &copy);
	for (unsigned i = 0; i < life->opt.disk_count; i++)
		if (layers[i] >= 0)
			close(layers[i]);
	life->restore.layers = NULL;
	start(life->vm);
	life->rebirths++;
	return true;
}

int life_end(struct life *life, char *text, size_t size)
{
	struct vm *vm = life->vm;
	struct pollfd fd = {.fd = vm->end.fd, .events = POLLIN};
	int status, unwritten;
	ssize_t n;

	poll(&fd, 1, -1);
	ck_assert(vm_stop(vm, &unwritten));
	status = vm->end.status;
	if (vm->end.error.text[0])
		printf("foal: %s\n", vm->end.error.text);
	vm_destroy(vm);
	free(vm);
	free((void *)life->restore.state);
	options_free(&life->opt);
	n = pread(life->out, text, size - 1, 0);
	text[n > 0 ? n : 0] = 0;
	close(life->out);
	return status;
}
