/* The items of fw_cfg: added by whoever builds the VM. */
#include "devices/fw_cfg_items.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KEY_DIRECTORY  0x19
#define KEY_FIRST_FILE 0x20

#define DIRECTORY      0 /* its item */

struct directory_entry {
	uint32_t size; /* big endian, as the next one */
	uint16_t key, reserved;
	char name[FW_CFG_NAME_MAX];
};

struct fw_cfg_directory {
	uint32_t count; /* big endian */
	struct directory_entry files[FW_CFG_MAX_ITEMS];
};

struct fw_cfg_item *fw_cfg_find(struct fw_cfg_items *items, uint16_t key)
{
	for (unsigned i = 0; i < items->count; i++)
		if (items->items[i].key == key)
			return &items->items[i];
	return NULL;
}

static int new_item(struct fw_cfg_items *items, uint16_t key, uint64_t len,
		    struct fw_cfg_item **out)
{
	if (fw_cfg_find(items, key))
		return -EEXIST;
	if (items->count == FW_CFG_MAX_ITEMS)
		return -ENOSPC;
	if (len > UINT32_MAX)
		return -EFBIG;
	*out = &items->items[items->count++];
	**out = (struct fw_cfg_item){.key = key, .len = (uint32_t)len, .fd = -1};
	return 0;
}

int fw_cfg_add(struct device *dev, uint16_t key, const void *data, size_t len)
{
	uint8_t *copy = malloc(len ? len : 1);
	struct fw_cfg_item *item;

	if (!copy)
		return -ENOMEM;
	int r = new_item(fw_cfg_items_of(dev), key, len, &item);
	if (r) {
		free(copy);
		return r;
	}
	if (len)
		memcpy(copy, data, len);
	item->data = copy;
	return 0;
}

int fw_cfg_add_number(struct device *dev, uint16_t key, uint64_t value, size_t width)
{
	uint64_t little = htole64(value);

	return width <= sizeof(little) ? fw_cfg_add(dev, key, &little, width) : -EINVAL;
}

int fw_cfg_add_range(struct device *dev, uint16_t key, int fd, uint64_t offset, uint64_t len)
{
	int copy = dup(fd);
	struct fw_cfg_item *item;

	if (copy < 0)
		return -errno;
	int r = new_item(fw_cfg_items_of(dev), key, len, &item);
	if (r) {
		close(copy);
		return r;
	}
	item->fd = copy;
	item->offset = offset;
	return 0;
}

int fw_cfg_add_file(struct device *dev, const char *name, const void *data, size_t len)
{
	struct fw_cfg_items *items = fw_cfg_items_of(dev);
	struct directory_entry *entry = &items->directory->files[items->files];
	uint16_t key = (uint16_t)(KEY_FIRST_FILE + items->files);

	if (strlen(name) >= FW_CFG_NAME_MAX)
		return -ENAMETOOLONG;
	for (unsigned i = 0; i < items->files; i++)
		if (strcmp(items->directory->files[i].name, name) == 0)
			return -EEXIST;
	int r = fw_cfg_add(dev, key, data, len);
	if (r)
		return r;
	*entry = (struct directory_entry){.size = htobe32((uint32_t)len), .key = htobe16(key)};
	memcpy(entry->name, name, strlen(name));
	items->directory->count = htobe32(++items->files);
	items->items[DIRECTORY].len += sizeof(*entry);
	return 0;
}

uint32_t fw_cfg_reached(struct device *dev, uint16_t key)
{
	struct fw_cfg_item *item = fw_cfg_find(fw_cfg_items_of(dev), key);

	return item ? atomic_load_explicit(&item->reached, memory_order_relaxed) : 0;
}

int fw_cfg_items_init(struct fw_cfg_items *items)
{
	struct fw_cfg_item *item;

	items->directory = calloc(1, sizeof(*items->directory));
	if (!items->directory)
		return -ENOMEM;
	int r = new_item(items, KEY_DIRECTORY, sizeof(items->directory->count), &item);
	if (r == 0)
		item->data = (uint8_t *)items->directory;
	return r;
}

void fw_cfg_items_free(struct fw_cfg_items *items)
{
	for (unsigned i = 0; i < items->count; i++) {
		free(items->items[i].data);
		if (items->items[i].fd >= 0)
			close(items->items[i].fd);
	}
}
