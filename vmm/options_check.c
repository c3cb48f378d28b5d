/* What holds between options, each of which was taken by itself. */
#include <errno.h>

#include "vmm/options.h"
#include "vmm/snapshot.h"

int options_check_machine(const struct run_options *opt, struct foal_error *err)
{
	struct foal_error why = {0};
	unsigned devices = opt->disk_count + opt->pmem_count + opt->net_count +
			   opt->virtio_console + opt->rng + opt->balloon + !!opt->vsock.path;
	unsigned room = opt->pci ? FOAL_PCI_SLOTS - 1 /* the bridge */ : FOAL_VIRTIO_MMIO_DEVICES;

	if (devices > room)
		return error_set(err, FOAL_EXIT_USAGE, -E2BIG,
				 "run: %u disks, networks and other devices; there is room for %u",
				 devices, room);
	if (!opt->kernel && !opt->firmware)
		return error_set(err, FOAL_EXIT_USAGE, -EINVAL, "run: --kernel FILE is needed");
	if (opt->balloon_target > opt->memory)
		return error_set(err, FOAL_EXIT_USAGE, -EINVAL,
				 "run: --balloon: the target is more than --memory");
	if (!opt->kernel && (opt->initrd || opt->append[0]))
		return error_set(err, FOAL_EXIT_USAGE, -EINVAL,
				 "run: --%s needs --kernel; a disk's boot loader brings its own",
				 opt->initrd ? "initrd" : "append");
	if (opt->firmware && opt->boot != BOOT_AUTO)
		return error_set(err, FOAL_EXIT_USAGE, -EINVAL,
				 "run: --boot: with --firmware the firmware enters the kernel");
	if (opt->reset_port && snapshot_possible(opt, "reset point", &why))
		return error_set(err, FOAL_EXIT_USAGE, -EINVAL, "run: --reset-port: %s", why.text);
	return firmware_check(opt, err);
}

int options_check_run(struct run_options *opt, struct foal_error *err)
{
	if (opt->background && opt->stats == STATS_JSON && !opt->stats_file)
		return error_set(
		    err, FOAL_EXIT_USAGE, -EINVAL,
		    "run: -d: --stats json needs --stats-file; or ask foal stat --json");
	if (opt->rip_sample == RIP_SAMPLE_UNSAID)
		opt->rip_sample = opt->fault_log ? RIP_SAMPLE_DEFAULT : 0;
	if (opt->rip_sample && !opt->fault_log)
		return error_set(err, FOAL_EXIT_USAGE, -EINVAL,
				 "run: --rip-sample: the samples are in the fault log; leave "
				 "--fault-log on");
	return memory_limit_check(opt, err);
}
