/*
 * The child that writes a snapshot. It is a copy of the VM's process as it was in the pause,
 * with one thread, in that thread's sandbox: it opens nothing, and has nothing to do with
 * KVM. It goes on when the VM ends.
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ept/snapshot.h"
#include "vmm/fork.h"
#include "vmm/snapshot.h"
#include "vmm/vm.h"

/* Why it failed; empty: it did not. */
struct outcome {
	char why[400];
	char id[33];
	struct ept_snapshot_info memory;
	size_t state;
};

/* And who reads the console. */
static void let_go(struct vm *vm)
{
	vm_let_go(vm);
	close(vm->kvm.dev_fd);
	close(STDIN_FILENO);
	close(STDOUT_FILENO);
}

static bool write_state(const struct vm *vm, int fd, const uint8_t *state, size_t len,
			struct outcome *out)
{
	out->state = len;
	while (len) {
		ssize_t n = pwrite(fd, state, len, (off_t)(out->state - len));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			snprintf(out->why, sizeof(out->why), "%s: cannot write the state: %s",
				 vm->opt->name, n ? strerror(errno) : strerror(ENOSPC));
			return false;
		}
		state += n;
		len -= (size_t)n;
	}
	return true;
}

static bool write_layers(struct vm *vm, const int *fds, struct outcome *out)
{
	for (unsigned i = 0, layer = 0; i < vm->opt->disk_count; i++) {
		if (vm->opt->disks[i].mode != DISK_COW)
			continue;
		int r = virtio_blk_save_layers(vm->disks[i].device, fds[layer++]);
		if (r) {
			snprintf(out->why, sizeof(out->why),
				 "%s: cannot write what the guest wrote to disk %.200s: %s",
				 vm->opt->name, vm->opt->disks[i].path, strerror(-r));
			return false;
		}
	}
	return true;
}

static bool write_memory(struct vm *vm, const struct snapshot_files *files, struct outcome *out)
{
	struct ept_snapshot_options options = {.memory_fd = files->memory,
					       .index_fd = files->index};

	if (getrandom(options.id, sizeof(options.id), 0) != sizeof(options.id)) {
		snprintf(out->why, sizeof(out->why), "%s: no random bytes: %s", vm->opt->name,
			 strerror(errno));
		return false;
	}
	for (size_t i = 0; i < sizeof(options.id); i++)
		snprintf(out->id + 2 * i, 3, "%02x", options.id[i]);
	return !ept_snapshot_write(vm->space, &options, &out->memory, out->why, sizeof(out->why));
}

static json_t *message_of(const struct outcome *out, bool well)
{
	const struct ept_snapshot_info *m = &out->memory;
	json_t *why = json_string(out->why); /* a path in it may be no UTF-8 */

	if (!well)
		return json_pack("{s:b, s:o}", "ok", 0, "message",
				 why ? why : json_string("it cannot be written"));
	json_decref(why);
	return json_pack("{s:b, s:s, s:I, s:{s:I, s:I, s:I, s:I, s:I, s:I}}", "ok", 1, "id",
			 out->id, "state_bytes", (json_int_t)out->state, "memory", "memory_bytes",
			 (json_int_t)m->memory_bytes, "stored_bytes", (json_int_t)m->stored_bytes,
			 "index_bytes", (json_int_t)m->index_bytes, "extents",
			 (json_int_t)m->extents, "pages", (json_int_t)m->pages, "zero_pages",
			 (json_int_t)m->zero_pages);
}

static void tell(int channel, const struct outcome *out, bool well)
{
	char text[SNAPSHOT_MESSAGE];
	json_t *message = message_of(out, well);
	size_t len = json_dumpb(message, text, sizeof(text), JSON_COMPACT);

	if (len && len <= sizeof(text))
		send(channel, text, len, MSG_NOSIGNAL | MSG_DONTWAIT);
}

_Noreturn void snapshot_child(struct vm *vm, const struct snapshot_files *files,
			      const uint8_t *state, size_t len)
{
	struct outcome out = {0};
	/* A stop begins after this is set: before, nothing of the VM was taken apart. */
	bool well = !atomic_load(&vm->stopping);

	ept_space_fork_frozen(vm->space, -1);
	let_go(vm);
	if (!well)
		snprintf(out.why, sizeof(out.why), "%s: the VM is ending", vm->opt->name);
	well = well && write_state(vm, files->state, state, len, &out) &&
	       write_layers(vm, files->layers, &out) && write_memory(vm, files, &out);
	tell(files->channel, &out, well);
	process_end(0);
}
