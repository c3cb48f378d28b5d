/* The state of a VM: its CPUID and clock, its vCPUs, its devices (docs/snapshot-state.md). */
#include "vmm/vm_state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#include "devices/state.h"
#include "vmm/snapshot_dir.h"
#include "vmm/vm.h"

/* Versions of the outermost records. */
#define CPUID_VERSION	1
#define CLOCK_VERSION	1
#define DEVICES_VERSION 1

#define LEAF_XSTATE	0xd
#define LEAF_SIZES	0x80000008
#define MAX_ELAPSED_NS	(100ULL * 366 * 86400 * 1000000000) /* a century: the clocks do not wrap */

/* --- CPUID --------------------------------------------------------------------------------- */

static void leaf_state(struct kvm_cpuid_entry2 *e, struct state *s)
{
	state_u32(s, &e->function);
	state_u32(s, &e->index);
	state_u32(s, &e->flags);
	state_u32(s, &e->eax);
	state_u32(s, &e->ebx);
	state_u32(s, &e->ecx);
	state_u32(s, &e->edx);
}

/* The processor's maker, and how it lays out its state and its addresses. */
static void check_layout(struct kvm_cpuid2 *was, struct kvm_cpuid2 *here, struct state *s)
{
	const struct kvm_cpuid_entry2 *a = cpu_leaf(was, 0, 0), *b = cpu_leaf(here, 0, 0);

	if (!a || !b || a->ebx != b->ebx || a->ecx != b->ecx || a->edx != b->edx) {
		state_refuse(s, "it ran on a processor of another maker");
		return;
	}
	a = cpu_leaf(was, LEAF_XSTATE, 0);
	b = cpu_leaf(here, LEAF_XSTATE, 0);
	if (a && (a->eax & ~(b ? b->eax : 0) || a->edx & ~(b ? b->edx : 0)))
		state_refuse(s, "this host's XSAVE lacks components 0x%x of 0x%x",
			     a->eax & ~(b ? b->eax : 0), a->eax);
	a = cpu_leaf(was, LEAF_SIZES, 0);
	b = cpu_leaf(here, LEAF_SIZES, 0);
	if (a && b && (a->eax & 0xff) > (b->eax & 0xff))
		state_refuse(s, "it has physical addresses of %u bits, this host of %u",
			     a->eax & 0xff, b->eax & 0xff);
}

/*
 * Each leaf once, as KVM looks for it: one that is not told apart by its index, whatever that is.
 * Of two that it takes for one it tells the guest the first, and this looks at the other.
 */
static void check_once(struct kvm_cpuid2 *was, struct state *s)
{
	for (uint32_t i = 0; i < was->nent; i++) {
		const struct kvm_cpuid_entry2 *e = &was->entries[i];
		bool indexed = e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX, twice = false;

		for (uint32_t k = 0; k < i && !twice; k++)
			twice = was->entries[k].function == e->function &&
				(was->entries[k].index == e->index || !indexed ||
				 !(was->entries[k].flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX));
		if (twice)
			state_refuse(s, "leaf 0x%x, index %u, is there twice", e->function,
				     e->index);
		else if (!indexed && e->index)
			state_refuse(s, "leaf 0x%x has no index, and is said to have %u",
				     e->function, e->index);
	}
}

/* A guest that was told of a feature uses it. */
static void check_features(struct kvm_cpuid2 *was, struct kvm_cpuid2 *here, struct state *s)
{
	char name[32];

	for (unsigned w = 0; w < CPU_WORDS; w++) {
		uint32_t lacks = cpu_word_of(was, w) & ~cpu_word_of(here, w);

		if (!lacks)
			continue;
		cpu_feature_name(w, (unsigned)__builtin_ctz(lacks), name, sizeof(name));
		state_refuse(s,
			     "the guest was told of the processor feature %s, which this host "
			     "lacks; --cpu baseline runs on more hosts",
			     name);
	}
}

/* @here, while loading: what it must not exceed, or NULL. */
static void cpuid_state(struct vm *vm, struct kvm_cpuid2 *table, struct kvm_cpuid2 *here,
			struct state *s)
{
	uint32_t nr = table->nent;

	if (!state_begin(s, "cpuid", 0, CPUID_VERSION))
		return;
	state_fixed(s, vm->vcpu_count, "the number of vCPUs");
	state_number(s, &nr, CPU_LEAVES, "the number of leaves");
	for (uint32_t i = 0; i < nr; i++)
		leaf_state(&table->entries[i], s);
	table->nent = nr;
	if (here && state_ok(s)) {
		check_once(table, s);
		check_layout(table, here, s);
		check_features(table, here, s);
	}
	state_end(s);
}

/* The table is that of vCPU 0; what tells the others apart is made when they are. */
static void save_cpuid(struct vm *vm, struct state *s)
{
	struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entries[CPU_LEAVES];
	} was = {.head.nent = vm->kvm.cpuid->nent};

	memcpy(was.entries, vm->kvm.cpuid->entries, was.head.nent * sizeof(was.entries[0]));
	cpu_identify(&was.head, 0);
	cpuid_state(vm, &was.head, NULL, s);
}

/* --- clock ---------------------------------------------------------------------------------- */

static uint64_t wall_clock(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* KVM's clock; loading, by @policy. Returns how many nanoseconds the guest is to see as passed. */
static uint64_t clock_state(struct vm *vm, struct state *s, enum clock_policy policy)
{
	struct kvm_clock_data data = {0};
	uint64_t now = wall_clock(), then = now, clock = 0, passed = 0;

	if (!state_begin(s, "clock", 0, CLOCK_VERSION))
		return 0;
	if (!s->loading && ioctl(vm->kvm.vm_fd, KVM_GET_CLOCK, &data))
		state_refuse(s, "KVM does not give the clock: %s", strerror(errno));
	clock = data.clock;
	state_u64(s, &clock);
	state_u64(s, &then);
	if (!state_end(s) || !s->loading)
		return 0;
	if (policy == CLOCK_JUMP && now > then)
		passed = now - then < MAX_ELAPSED_NS ? now - then : MAX_ELAPSED_NS;
	data = (struct kvm_clock_data){.clock = clock + passed};
	if (ioctl(vm->kvm.vm_fd, KVM_SET_CLOCK, &data))
		state_refuse(s, "KVM does not take the clock: %s", strerror(errno));
	return passed;
}

/* --- all ------------------------------------------------------------------------------------- */

static void devices_state(struct vm *vm, struct state *s)
{
	if (!state_begin(s, "devices", 0, DEVICES_VERSION))
		return;
	state_fixed(s, vm->virtio_count, "the number of virtio devices");
	bus_state(vm->pio, s);
	if (state_ok(s))
		bus_state(vm->mmio, s);
	state_end(s);
}

int vm_state_save(struct vm *vm, uint8_t **bytes, size_t *len, struct foal_error *err)
{
	struct state s;
	int r;

	state_save(&s);
	save_cpuid(vm, &s);
	clock_state(vm, &s, CLOCK_FREEZE);
	for (unsigned i = 0; i < vm->vcpu_count && state_ok(&s); i++)
		vcpu_state(&vm->vcpus[i], &s, VCPU_ALL, 0, NULL);
	if (state_ok(&s))
		devices_state(vm, &s);
	r = state_saved(&s, bytes, len);
	return r ? error_set(err, FOAL_EXIT_HOST, r, "%s: %s", vm->opt->name, s.error) : 0;
}

static int begin(struct vm *vm, struct state *s, const char *record)
{
	return state_load(s, vm->restore->state, vm->restore->len) && state_find(s, record, 0);
}

static int result(struct vm *vm, const struct state *s, struct foal_error *err)
{
	if (state_ok(s))
		return 0;
	if (!err)
		return -EINVAL;
	return error_set(err, FOAL_EXIT_SNAPSHOT, -EINVAL, "%s: %s", vm->opt->name, s->error);
}

/* As it is in vm->restore, into @table. */
static int load_cpuid(struct vm *vm, struct kvm_cpuid2 *table, struct kvm_cpuid2 *here,
		      struct foal_error *err)
{
	struct state s;

	if (!table)
		return error_set(err, FOAL_EXIT_HOST, -ENOMEM, "out of memory for CPUID");
	if (begin(vm, &s, "cpuid"))
		cpuid_state(vm, table, here, &s);
	return result(vm, &s, err);
}

int vm_state_load_cpuid(struct vm *vm, struct foal_error *err)
{
	vm->kvm.cpuid = cpu_table();
	return load_cpuid(vm, vm->kvm.cpuid, NULL, err);
}

int vm_state_check_cpuid(struct vm *vm, struct foal_error *err)
{
	struct kvm_cpuid2 *was = cpu_table();
	int r = load_cpuid(vm, was, vm->kvm.supported, err);

	free(was);
	free(vm->kvm.supported);
	vm->kvm.supported = NULL;
	return r;
}

int vm_state_load_still(struct vm *vm, struct foal_error *err)
{
	struct state s;

	begin(vm, &s, "vcpu");
	for (unsigned i = 0; i < vm->vcpu_count && state_ok(&s); i++)
		vcpu_state(&vm->vcpus[i], &s, VCPU_STILL, 0, NULL);
	return result(vm, &s, err);
}

int vm_state_load_vcpus(struct vm *vm, unsigned which, struct foal_error *err)
{
	uint64_t passed = 0;
	struct state s;

	if (begin(vm, &s, "clock"))
		passed = clock_state(vm, &s, vm->restore->clock);
	for (unsigned i = 0; i < vm->vcpu_count && state_ok(&s); i++)
		vcpu_state(&vm->vcpus[i], &s, which, passed, NULL);
	return result(vm, &s, err);
}

int vm_state_load_clocks(struct vm *vm, struct foal_error *err)
{
	struct state s;

	if (begin(vm, &s, "clock"))
		clock_state(vm, &s, vm->restore->clock);
	for (unsigned i = 0; i < vm->vcpu_count && state_ok(&s); i++) {
		struct vcpu_back back = {.freeze = true, .clocks = true};

		vcpu_state(&vm->vcpus[i], &s, VCPU_CLOCKS, 0, &back);
	}
	return result(vm, &s, err);
}

int vm_state_load_devices(struct vm *vm, struct foal_error *err)
{
	struct state s;

	if (begin(vm, &s, "devices")) {
		devices_state(vm, &s);
		state_loaded(&s);
	}
	return result(vm, &s, err);
}

/* Its vCPUs were told their CPUID when they were made; KVM takes no other after they ran. */
int vm_state_reload(struct vm *vm, const struct vm_restore *from, struct foal_error *err)
{
	int r;

	vm->restore = from;
	r = vm_state_load_vcpus(vm, VCPU_ALL, err);
	return r ? r : vm_state_load_devices(vm, err);
}

static void devices_go_back(struct vm *vm, struct state *s)
{
	struct state room;

	if (!state_begin(s, "devices", 0, DEVICES_VERSION))
		return;
	state_fixed(s, vm->virtio_count, "the number of virtio devices");
	state_room(&room);
	if (state_ok(s) && bus_go_back(vm->pio, s, &room))
		bus_go_back(vm->mmio, s, &room);
	state_room_end(&room);
	state_end(s);
}

/* The devices' interrupts come last, as when a VM is restored: the local APICs take them. */
int vm_state_go_back(struct vm *vm, const struct vm_restore *from, struct vcpu *self,
		     bool same_controls, struct foal_error *err)
{
	bool freeze = from->clock == CLOCK_FREEZE;
	struct state s;

	state_load_again(&s, from->state, from->len);
	if (state_find(&s, freeze ? "clock" : "vcpu", 0) && freeze)
		clock_state(vm, &s, from->clock);
	for (unsigned i = 0; i < vm->vcpu_count && state_ok(&s); i++) {
		bool is_self = &vm->vcpus[i] == self;
		struct vcpu_back back = {
		    .enters = is_self, .freeze = freeze, .same_controls = is_self && same_controls};

		vcpu_state(&vm->vcpus[i], &s, VCPU_ALL, 0, &back);
	}
	if (state_ok(&s) && state_find(&s, "devices", 0))
		devices_go_back(vm, &s);
	return result(vm, &s, err);
}

/* --- disks ------------------------------------------------------------------------------------ */

int vm_no_layer(const struct vm *vm, int error, struct foal_error *err)
{
	if (error == -EMLINK)
		return error_set(
		    err, FOAL_EXIT_CONTROL, error,
		    "%s: a disk has what it was at %u forks and reset points under it; "
		    "a snapshot, restored, has it in one",
		    vm->opt->name, DISK_LAYERS_MAX);
	return error_set(err, FOAL_EXIT_HOST, error, "%s: out of memory for the layers of disks",
			 vm->opt->name);
}

static int freeze_disks(struct vm *vm, int (*freeze)(struct device *blk), struct foal_error *err)
{
	int r = 0;

	for (unsigned i = 0; i < vm->opt->disk_count && r == 0; i++)
		r = freeze(vm->disks[i].device);
	return r ? vm_no_layer(vm, r, err) : 0;
}

int vm_disks_freeze(struct vm *vm, struct foal_error *err)
{
	return freeze_disks(vm, virtio_blk_freeze, err);
}

int vm_disks_freeze_passing(struct vm *vm, struct foal_error *err)
{
	return freeze_disks(vm, virtio_blk_freeze_passing, err);
}

void vm_disks_folded(struct vm *vm)
{
	for (unsigned i = 0; i < vm->opt->disk_count; i++)
		virtio_blk_folded(vm->disks[i].device);
}

static int load_layer(struct vm *vm, unsigned i, int fd, struct foal_error *err)
{
	int r = virtio_blk_load_layer(vm->disks[i].device, fd);
	const char *why = r == -EINVAL	  ? "is no layer of it, or of another version"
			  : r == -EBADMSG ? "is damaged"
			  : r == -EBUSY	  ? "is for a disk with mode=cow"
					  : strerror(-r);

	return r ? error_set(err, FOAL_EXIT_SNAPSHOT, r, "disk %s: what was saved of it: %s",
			     vm->opt->disks[i].path, why)
		 : 0;
}

/* Of one disk, oldest first. */
static int load_layers(struct vm *vm, unsigned i, struct foal_error *err)
{
	const struct snapshot_dir *below = vm->restore->below;
	int fds[SNAPSHOT_CHAIN_MAX], r = 0;
	unsigned n = 0;

	fds[n++] = vm->restore->layers[i];
	for (; below && n < SNAPSHOT_CHAIN_MAX; below = below->below)
		fds[n++] = below->layers[i];
	while (n-- > 0 && r == 0)
		r = load_layer(vm, i, fds[n], err);
	return r;
}

int vm_disks_load(struct vm *vm, struct foal_error *err)
{
	int r = 0;

	for (unsigned i = 0; vm->restore->layers && i < vm->opt->disk_count && r == 0; i++)
		if (vm->restore->layers[i] >= 0)
			r = load_layers(vm, i, err);
	return r;
}
