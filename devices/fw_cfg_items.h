/*
 * What fw_cfg offers: items by key, some in memory, some in files, and a
 * directory of those that have names. Fixed before the vCPUs run. Private to
 * fw_cfg*.c.
 */
#ifndef FOAL_DEVICES_FW_CFG_ITEMS_H
#define FOAL_DEVICES_FW_CFG_ITEMS_H

#include <stdatomic.h>

#include "devices/device.h"
#include "devices/fw_cfg.h"

#define FW_CFG_MAX_ITEMS 64

struct fw_cfg_item {
	uint16_t key;
	uint32_t len;
	uint8_t *data;		  /* owned; NULL: in the file */
	int fd;			  /* owned; -1: in memory */
	uint64_t offset;	  /* of the item in the file */
	_Atomic uint32_t reached; /* how far it was ever read */
};

struct fw_cfg_directory;

struct fw_cfg_items {
	unsigned count, files;
	struct fw_cfg_item items[FW_CFG_MAX_ITEMS];
	struct fw_cfg_directory *directory; /* the first item's data */
};

/* With an empty directory. -ENOMEM; nothing to free then. */
int fw_cfg_items_init(struct fw_cfg_items *items);
void fw_cfg_items_free(struct fw_cfg_items *items);

/* NULL: there is none of that key. */
struct fw_cfg_item *fw_cfg_find(struct fw_cfg_items *items, uint16_t key);

/* The items of a fw_cfg device (fw_cfg.c). */
struct fw_cfg_items *fw_cfg_items_of(struct device *fw_cfg);

#endif
