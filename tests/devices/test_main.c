#include "tests/devices/rig.h"
#include "tests/run_suites.h"

int main(int argc, char **argv)
{
	static Suite *(*const suites[])(void) = {
	    bus_suite,	       ioapic_suite,	serial_suite,	     platform_suite,
	    fw_cfg_suite,      rtc_suite,	virtio_suite,	     virtio_reset_suite,
	    virtio_type_suite, virtqueue_suite, packed_suite,	     rings_suite,
	    blk_suite,	       disk_suite,	disk_failures_suite, remote_suite,
	    foal_nbd_suite,    vsock_suite,	vsock_hostile_suite, vsock_connector_suite,
	    pmem_suite,	       balloon_suite,	net_suite,	     net_rx_suite,
	    console_suite,     rng_suite,	pci_suite,	     pci_virtio_suite,
	    state_suite,       hold_suite,
	};

	return run_suites(suites, sizeof(suites) / sizeof(*suites), argc ? argv + 1 : argv);
}
