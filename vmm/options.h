/* The command line of `foal run`. */
#ifndef FOAL_VMM_OPTIONS_H
#define FOAL_VMM_OPTIONS_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "devices/devices.h"
#include "guest/abi.h"
#include "vmm/cpu.h"
#include "vmm/error.h"
#include "vmm/file_option.h"
#include "vmm/memory_limit.h"
#include "vmm/net_option.h"
#include "vmm/run_dir.h"
#include "vmm/vsock.h"

#define MAX_FILES FOAL_VIRTIO_MMIO_DEVICES

/* Whether HLT leaves the guest; AUTO: unless every fault is to be counted exactly. */
enum halt_choice { HALT_AUTO, HALT_GUEST, HALT_EXIT };

enum stats_format { STATS_TABLE, STATS_JSON, STATS_OFF };

/* How a kernel is entered. AUTO: a bzImage by LINUX64, an ELF file by PVH if it can. */
enum boot_protocol { BOOT_AUTO, BOOT_LINUX64, BOOT_PVH };

struct run_options {
	const char *kernel, *initrd, *append; /* point into argv */
	enum boot_protocol boot;
	const char *firmware; /* a file, "qboot" or "seabios"; NULL: foal boots the kernel itself */
	char name[VM_NAME_SIZE];
	bool named;	     /* --name was given, or the VM is to run in the background */
	bool background;     /* -d */
	const char *run_dir; /* NULL: the usual one */
	uint64_t memory;     /* bytes, a multiple of the page size */
	struct memory_limit limit;
	unsigned cpus;
	const char *cpu; /* as it was given */
	struct cpu_mask cpu_mask;
	struct file_option disks[MAX_FILES], pmems[MAX_FILES];
	unsigned disk_count, pmem_count;
	struct net_option nets[MAX_NETS];
	unsigned net_count;
	bool virtio_console; /* --console virtio: what is typed goes there */
	bool rng;
	bool reset_port;
	enum ept_engine engine;
	enum ept_huge huge;
	unsigned fault_around; /* pages; 0: default */
	enum ept_io_policy on_io_error;
	unsigned fault_timeout; /* seconds; 0: none */
	unsigned time_limit;	/* seconds; 0: none */
	bool pci;		/* virtio devices on PCI: --transport pci */
	enum halt_choice halt;
	struct vsock_option vsock;
	bool balloon;
	uint64_t balloon_target; /* bytes the guest is to keep of its memory; 0: all */
	bool sandbox;
	bool change_ids; /* --user: to uid and gid */
	uid_t uid;
	gid_t gid;
	enum stats_format stats;
	const char *stats_file; /* NULL: stdout for JSON, stderr for the table */
	const char *trace;	/* NULL: no fault is told of */
	bool fault_log;		/* ept/record.h */
	unsigned rip_sample;	/* one of so many faults of a vCPU is sampled; 0: none */
};

#define RIP_SAMPLE_DEFAULT 1000U
#define RIP_SAMPLE_UNSAID \
	UINT_MAX /* options_defaults(); options_check_run() makes it one of two \
		  */

/* Fill @out with defaults and what argv says; free with options_free(). */
int options_parse(int argc, char **argv, struct run_options *out, struct foal_error *err);

/* The same in steps, for options that come from elsewhere: these are options_parse(). */
void options_defaults(struct run_options *out);
/* Option @name as if --@name @value had been given; @value has to live as long as @out. */
int options_set(struct run_options *out, const char *name, const char *value,
		struct foal_error *err);
/* What holds between options that say what the machine is. */
int options_check_machine(const struct run_options *opt, struct foal_error *err);
/* And those that say how it is run; fills in what follows from others. */
int options_check_run(struct run_options *opt, struct foal_error *err);
void options_free(struct run_options *opt);
void options_usage(void);

/* firmware.c: the ROM's file; NULL: there is none. */
const char *firmware_path(const struct run_options *opt);

/* firmware.c: is there anything that the ROM boots, where a word says which ROM? 0 or -EINVAL. */
int firmware_check(const struct run_options *opt, struct foal_error *err);

#endif
