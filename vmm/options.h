/* The command line of `foal run`. */
#ifndef FOAL_VMM_OPTIONS_H
#define FOAL_VMM_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/devices.h"
#include "guest/abi.h"
#include "vmm/error.h"

#define MAX_FILES FOAL_VIRTIO_MMIO_DEVICES

enum stats_format { STATS_TABLE, STATS_JSON, STATS_OFF };
enum engine_choice { ENGINE_AUTO, ENGINE_HANDLER, ENGINE_KERNEL };

/* --disk and --pmem: a file and how the guest's writes to it are treated. */
struct file_option {
	char *path; /* owned */
	enum disk_mode mode;
};

struct run_options {
	const char *kernel, *initrd, *append; /* point into argv */
	char name[64];
	uint64_t memory; /* bytes, a multiple of the page size */
	unsigned cpus;
	struct file_option disks[MAX_FILES], pmems[MAX_FILES];
	unsigned disk_count, pmem_count;
	enum engine_choice engine;
	unsigned fault_around; /* pages; 0: default */
	unsigned time_limit;   /* seconds; 0: none */
	bool halt_exits;       /* leave HLT intercepted: --halt exit */
	enum stats_format stats;
	const char *stats_file; /* NULL: stdout for JSON, stderr for the table */
};

/* Fill @out with defaults and what argv says; free with options_free(). */
int options_parse(int argc, char **argv, struct run_options *out, struct foal_error *err);
void options_free(struct run_options *opt);
void options_usage(void);

#endif
