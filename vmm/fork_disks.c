#include "vmm/fork_disks.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/remote_disk.h"
#include "vmm/vm.h"

bool fork_disks_behind(const struct run_options *opt)
{
	for (unsigned i = 0; i < opt->disk_count; i++)
		if (remote_disk_wanted(&opt->disks[i]))
			return true;
	return false;
}

/* Of one disk; @from NULL: from its own companion. The other end's socket, or a negative errno. */
static int share(struct vm_file *disk, const int *from)
{
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
		return -errno;
	/* The companion's end waits. */
	int r = fcntl(ends[0], F_SETFL, O_NONBLOCK) ? -errno : 0;
	if (r == 0)
		r = from ? disk_remote_share(*from, ends[1])
			 : virtio_blk_share(disk->device, ends[1]);
	close(ends[1]);
	if (r)
		close(ends[0]);
	return r ? r : ends[0];
}

int fork_disks_freeze(struct vm *vm, struct foal_error *err)
{
	int r = vm_disks_freeze(vm, err);

	for (unsigned i = 0; i < MAX_FILES; i++)
		vm->disks[i].companion = -1;
	for (unsigned i = 0; i < vm->opt->disk_count && r == 0; i++) {
		if (!remote_disk_wanted(&vm->opt->disks[i]))
			continue;
		r = share(&vm->disks[i], NULL);
		if (r < 0)
			return error_set(err, FOAL_EXIT_CONTROL, r,
					 "%s: no fork: disk %s: its helper program: %s",
					 vm->opt->name, vm->opt->disks[i].path, strerror(-r));
		vm->disks[i].companion = r;
		r = 0;
	}
	return r;
}

void fork_disks_let_go(struct vm *vm)
{
	for (unsigned i = 0; i < vm->opt->disk_count; i++)
		if (remote_disk_wanted(&vm->opt->disks[i]) && vm->disks[i].companion >= 0) {
			close(vm->disks[i].companion);
			vm->disks[i].companion = -1;
		}
}

void fork_disks_none(int *out)
{
	for (unsigned i = 0; i < MAX_FILES; i++)
		out[i] = -1;
}

void fork_disks_close(int *out)
{
	for (unsigned i = 0; i < MAX_FILES; i++)
		if (out[i] >= 0)
			close(out[i]);
	fork_disks_none(out);
}

const char *fork_disks_share(struct vm *vm, int *out)
{
	for (unsigned i = 0; i < vm->opt->disk_count; i++) {
		if (!remote_disk_wanted(&vm->opt->disks[i]))
			continue;
		out[i] = share(&vm->disks[i], &vm->disks[i].companion);
		if (out[i] < 0)
			return "a disk's helper program is gone, or no descriptor is left";
	}
	return NULL;
}

int fork_disks_open(struct vm *vm, struct foal_error *err)
{
	int r = 0;

	for (unsigned i = 0; i < vm->opt->disk_count && r == 0; i++) {
		struct vm_file *disk = &vm->disks[i];

		if (!remote_disk_wanted(disk->option))
			continue;
		/* One that is gone is told by the next. */
		(void)disk_remote_log(disk->companion, STDERR_FILENO);
		r = remote_disk_connect(disk->option, disk->companion, &disk->backend, err);
		close(disk->companion);
		disk->companion = -1;
	}
	return r;
}
