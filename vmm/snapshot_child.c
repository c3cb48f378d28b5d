/*
 * The child that writes a snapshot. It is a copy of the VM's process as it was in the pause,
 * with one thread, in that thread's sandbox: it opens nothing, and has nothing to do with
 * KVM. It goes on when the VM ends.
 */
#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ept/snapshot.h"
#include "vmm/fork.h"
#include "vmm/snapshot_channel.h"
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

/* --- what the client has for it ----------------------------------------------------------- */

/* How long it may take to give a page map; without it each page is looked at. */
#define PAGEMAP_MS 5000

/* What the snapshot is to be the difference to, newest first. */
struct parents {
	unsigned count;
	struct ept_snapshot *memory[SNAPSHOT_CHAIN_MAX]; /* only indexes */
	struct passed
	    files[SNAPSHOT_CHAIN_MAX]; /* of them the index, which is closed, and layers */
};

static bool take_parents(const struct vm *vm, const struct snapshot_files *files,
			 struct parents *parents, struct outcome *out)
{
	unsigned count = 1 + snapshot_layers(vm->opt);

	for (unsigned i = 0; i < files->how.parents; i++) {
		struct passed *passed = &parents->files[i];

		if (!channel_receive(files->channel, passed) || passed->count != count) {
			snprintf(out->why, sizeof(out->why),
				 "%s: the files of parent %u do not come: its memory.index, and a "
				 "layer for each disk with mode=cow",
				 vm->opt->name, i);
			return false;
		}
		if (ept_snapshot_open(-1, passed->fds[0], "the parent", &parents->memory[i],
				      out->why, sizeof(out->why)))
			return false;
		close(passed->fds[0]);
		parents->count++;
	}
	return true;
}

/* Whoever asked may open /proc/PID/pagemap, which this process may not. -1: it does not. */
static int ask_pagemap(const struct snapshot_files *files)
{
	struct pollfd pfd = {.fd = files->channel, .events = POLLIN};
	struct passed passed;
	char text[64];
	int len = snprintf(text, sizeof(text), "{\"child\":%d}", (int)getpid());

	if (!files->how.pagemap ||
	    send(files->channel, text, (size_t)len, MSG_NOSIGNAL | MSG_DONTWAIT) != len ||
	    poll(&pfd, 1, PAGEMAP_MS) != 1 || !channel_receive(files->channel, &passed))
		return -1;
	return passed.fds[0];
}

/* --- the parts ---------------------------------------------------------------------------- */

static bool write_layers(struct vm *vm, const int *fds, const struct parents *parents,
			 struct outcome *out)
{
	int below[SNAPSHOT_CHAIN_MAX];

	for (unsigned i = 0, layer = 0; i < vm->opt->disk_count; i++) {
		if (vm->opt->disks[i].mode != DISK_COW)
			continue;
		for (unsigned n = 0; n < parents->count; n++)
			below[n] = parents->files[n].fds[1 + layer];
		int r = virtio_blk_save_difference(vm->disks[i].device, fds[layer++], below,
						   parents->count);
		if (r) {
			snprintf(out->why, sizeof(out->why),
				 "%s: cannot write what the guest wrote to disk %.150s: %s",
				 vm->opt->name, vm->opt->disks[i].path,
				 r == -ESTALE ? "the parent has more of it, and only its "
						"helper could tell; take it without --diff"
					      : strerror(-r));
			return false;
		}
	}
	return true;
}

static bool write_memory(struct vm *vm, const struct snapshot_files *files,
			 const struct parents *parents, struct outcome *out)
{
	struct ept_snapshot_options options = {.memory_fd = files->memory,
					       .index_fd = files->index,
					       .zstd_level = files->how.zstd_level,
					       .layers = parents->memory,
					       .count = parents->count};

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

static bool fold_layers(struct vm *vm)
{
	int r = 0;

	for (unsigned i = 0; i < vm->opt->disk_count && r == 0; i++)
		r = virtio_blk_fold(vm->disks[i].device);
	return r == 0;
}

_Noreturn void snapshot_child(struct vm *vm, const struct snapshot_files *files,
			      const uint8_t *state, size_t len)
{
	static struct parents parents;
	struct outcome out = {0};
	/* A stop begins after this is set: before, nothing of the VM was taken apart. */
	bool well = !atomic_load(&vm->stopping), folded;

	let_go(vm);
	if (!well)
		snprintf(out.why, sizeof(out.why), "%s: the VM is ending", vm->opt->name);
	well = well && take_parents(vm, files, &parents, &out);
	ept_space_fork_frozen(vm->space, well ? ask_pagemap(files) : -1);
	well = well && write_state(vm, files->state, state, len, &out) &&
	       write_layers(vm, files->layers, &parents, &out) &&
	       write_memory(vm, files, &parents, &out);
	folded = fold_layers(vm);
	tell(files->channel, &out, well);
	process_end(folded ? SNAPSHOT_CHILD_FOLDED : 0);
}
