/*
 * QEMU's firmware configuration (QEMU docs/specs/fw_cfg): items by key, and
 * files, which are items with a name. All are added by the thread that builds
 * the VM, before the vCPUs run; the guest reads them, and writes none.
 */
#ifndef FOAL_DEVICES_FW_CFG_H
#define FOAL_DEVICES_FW_CFG_H

#include "devices/devices.h"

/* With the terminating zero. */
#define FW_CFG_NAME_MAX 56

/* Keys that firmware knows (QEMU standard-headers, linux/qemu_fw_cfg.h). Numbers are little endian.
 */
enum {
	FW_CFG_RAM_SIZE = 0x03,	   /* 8 bytes */
	FW_CFG_NOGRAPHIC = 0x04,   /* 2 */
	FW_CFG_NB_CPUS = 0x05,	   /* 2 */
	FW_CFG_KERNEL_ADDR = 0x07, /* 4, as all below that are no data */
	FW_CFG_KERNEL_SIZE = 0x08,
	FW_CFG_INITRD_ADDR = 0x0a,
	FW_CFG_INITRD_SIZE = 0x0b,
	FW_CFG_MAX_CPUS = 0x0f, /* 2 */
	FW_CFG_KERNEL_ENTRY = 0x10,
	FW_CFG_KERNEL_DATA = 0x11,
	FW_CFG_INITRD_DATA = 0x12,
	FW_CFG_CMDLINE_ADDR = 0x13,
	FW_CFG_CMDLINE_SIZE = 0x14, /* with the terminating zero */
	FW_CFG_CMDLINE_DATA = 0x15,
	FW_CFG_SETUP_ADDR = 0x16,
	FW_CFG_SETUP_SIZE = 0x17,
	FW_CFG_SETUP_DATA = 0x18,
};

/* Ports FOAL_PORT_FW_CFG on, FOAL_PORT_FW_CFG_LEN of them. Errors: -ENOMEM. */
int fw_cfg_create(const struct device_host *host, struct device **out);

/*
 * Add an item: @len bytes, copied; a number of @width bytes; or @len bytes of
 * the open file @fd, which is dup'ed, from @offset on: these are read when the
 * guest asks for them, straight into its memory. Errors: -EEXIST (the key has
 * one), -ENOSPC (64 items), -EFBIG (4 GiB), -ENOMEM, -EMFILE.
 */
int fw_cfg_add(struct device *fw_cfg, uint16_t key, const void *data, size_t len);
int fw_cfg_add_number(struct device *fw_cfg, uint16_t key, uint64_t value, size_t width);
int fw_cfg_add_range(struct device *fw_cfg, uint16_t key, int fd, uint64_t offset, uint64_t len);

/* Add a file of that name; errors as above, and -ENAMETOOLONG. @data is copied. */
int fw_cfg_add_file(struct device *fw_cfg, const char *name, const void *data, size_t len);

/* How many bytes of item @key, from its start, the guest has ever asked for. */
uint32_t fw_cfg_reached(struct device *fw_cfg, uint16_t key);

#endif
