/* What is around a device that is fuzzed: its input, the host's end of what it is connected to. */
#ifndef FOAL_TESTS_FUZZ_HOST_H
#define FOAL_TESTS_FUZZ_HOST_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "devices/device.h"

struct input {
	const uint8_t *data;
	size_t left;
};

/* The next @len bytes, at most 8; 0 for what is not there. */
static inline uint64_t take(struct input *in, size_t len)
{
	uint64_t value = 0;

	if (len > in->left)
		len = in->left;
	memcpy(&value, in->data, len);
	in->data += len;
	in->left -= len;
	return value;
}

/* One of each kind and mode there is, by @kind; @area is for persistent memory. 0 or an errno. */
int fuzz_host_device(const struct device_host *host, uint8_t kind, struct ept_area *area,
		     struct device **dev);

/* What comes from the host's side: a frame, or something that passes for one. */
void fuzz_host_sends(struct device *dev, struct input *in, uint8_t how);

/* Close the host's end; the device is gone. */
void fuzz_host_end(void);

#endif
