/*
 * A bus: devices by address. The table is built before the vCPUs run and only
 * read after that, so a lookup takes no lock.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "devices/device.h"
#include "devices/state.h"

struct bus_range {
	uint64_t base, size;
	struct device *dev;
};

struct bus {
	size_t nr;
	struct bus_range *ranges; /* ascending by base, none overlapping */
};

struct bus *bus_create(void)
{
	return calloc(1, sizeof(struct bus));
}

int bus_start(struct bus *bus)
{
	for (size_t i = 0; i < bus->nr; i++) {
		const struct bus_range *range = &bus->ranges[i];
		int rc =
		    range->dev->ops->start ? range->dev->ops->start(range->dev, range->base) : 0;

		if (rc)
			return rc;
	}
	return 0;
}

static void device_stop(struct device *dev)
{
	if (dev->ops->stop)
		dev->ops->stop(dev);
}

void bus_stop(struct bus *bus)
{
	for (size_t i = 0; i < bus->nr; i++)
		device_stop(bus->ranges[i].dev);
}

/* First each is told, so that they come to rest side by side; then each is waited for. */
struct device *bus_hold(struct bus *bus, uint64_t deadline)
{
	struct device *busy = NULL;

	for (int pass = 0; pass < 2; pass++) {
		busy = NULL;
		for (size_t i = 0; i < bus->nr && !busy; i++) {
			struct device *dev = bus->ranges[i].dev;
			struct device *left =
			    dev->ops->hold ? dev->ops->hold(dev, pass ? deadline : 0) : NULL;

			busy = pass ? left : NULL;
		}
	}
	return busy;
}

void bus_release(struct bus *bus)
{
	for (size_t i = 0; i < bus->nr; i++) {
		struct device *dev = bus->ranges[i].dev;

		if (dev->ops->release)
			dev->ops->release(dev);
	}
}

void bus_forked(struct bus *bus)
{
	for (size_t i = 0; i < bus->nr; i++) {
		struct device *dev = bus->ranges[i].dev;

		if (dev->ops->forked)
			dev->ops->forked(dev);
	}
}

/* All devices stop before the first goes: one may still raise its pin at the IOAPIC. */
void bus_destroy(struct bus *bus)
{
	if (!bus)
		return;
	bus_stop(bus);
	for (size_t i = 0; i < bus->nr; i++)
		bus->ranges[i].dev->ops->destroy(bus->ranges[i].dev);
	free(bus->ranges);
	free(bus);
}

static bool device_state(struct device *dev, struct state *s, unsigned index)
{
	const struct device_ops *ops = dev->ops;

	if (!ops->state)
		return true;
	return state_begin(s, ops->kind, index, ops->state_version) && ops->state(dev, s) &&
	       state_end(s);
}

static bool go_back(struct device *dev, struct state *s, struct state *room, unsigned index)
{
	state_again(room);
	if (dev->ops->state && !(dev->ops->remembers && dev->ops->remembers(dev)) &&
	    device_state(dev, room, index) && state_same(s, room))
		return true;
	return device_state(dev, s, index);
}

/* @room: of bus_go_back(), or NULL. */
static bool each_state(struct bus *bus, struct state *s, struct state *room)
{
	for (int last = 0; last < 2; last++) {
		for (size_t i = 0; i < bus->nr; i++) {
			struct device *dev = bus->ranges[i].dev;

			if ((dev->ops == &ioapic_device) != last)
				continue;
			if (!(room ? go_back(dev, s, room, (unsigned)i)
				   : device_state(dev, s, (unsigned)i)))
				return false;
		}
	}
	return state_ok(s);
}

bool bus_state(struct bus *bus, struct state *s)
{
	return each_state(bus, s, NULL);
}

bool bus_go_back(struct bus *bus, struct state *s, struct state *room)
{
	return each_state(bus, s, room);
}

/* How many ranges begin at @addr or below. */
static size_t ranges_upto(const struct bus *bus, uint64_t addr)
{
	size_t low = 0, high = bus->nr;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (bus->ranges[mid].base <= addr)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static int range_insert(struct bus *bus, struct bus_range range)
{
	struct bus_range *ranges;
	size_t at;

	if (range.size == 0 || range.size - 1 > UINT64_MAX - range.base)
		return -EINVAL;
	at = ranges_upto(bus, range.base);
	if (at > 0 && range.base - bus->ranges[at - 1].base < bus->ranges[at - 1].size)
		return -EEXIST;
	if (at < bus->nr && bus->ranges[at].base - range.base < range.size)
		return -EEXIST;

	ranges = reallocarray(bus->ranges, bus->nr + 1, sizeof(*ranges));
	if (!ranges)
		return -ENOMEM;
	bus->ranges = ranges;
	memmove(&ranges[at + 1], &ranges[at], (bus->nr - at) * sizeof(*ranges));
	ranges[at] = range;
	bus->nr++;
	return 0;
}

int bus_attach(struct bus *bus, struct device *dev, uint64_t base, uint64_t size)
{
	int rc = range_insert(bus, (struct bus_range){base, size, dev});

	if (rc) {
		device_stop(dev);
		dev->ops->destroy(dev);
	}
	return rc;
}

/* The range that takes all of an access, or NULL. */
static const struct bus_range *range_find(const struct bus *bus, uint64_t addr, unsigned len)
{
	size_t upto = ranges_upto(bus, addr);
	const struct bus_range *range;

	if (upto == 0 || (len != 1 && len != 2 && len != 4 && len != 8))
		return NULL;
	range = &bus->ranges[upto - 1];
	if (len > range->size || addr - range->base > range->size - len)
		return NULL;
	return range;
}

bool bus_read(struct bus *bus, uint64_t addr, void *data, unsigned len)
{
	const struct bus_range *range = range_find(bus, addr, len);
	uint64_t value = UINT64_MAX;

	if (range)
		value = range->dev->ops->read(range->dev, addr - range->base, len);
	memcpy(data, &value, len < sizeof(value) ? len : sizeof(value));
	return range != NULL;
}

bool bus_write(struct bus *bus, uint64_t addr, const void *data, unsigned len)
{
	const struct bus_range *range = range_find(bus, addr, len);
	uint64_t value = 0;

	if (!range)
		return false;
	memcpy(&value, data, len);
	range->dev->ops->write(range->dev, addr - range->base, len, value);
	return true;
}
