/*
 * MSI-X of one function (PCI 3.0, 6.8.2): a table of messages, a bit for each
 * that waits because it is masked. The lock is its user's.
 */
#ifndef FOAL_DEVICES_MSIX_H
#define FOAL_DEVICES_MSIX_H

#include "devices/devices.h"

#define MSIX_MAX 32

struct msix {
	unsigned nr; /* vectors, at most MSIX_MAX */
	bool enabled, masked;
	uint32_t pending; /* a bit a vector */
	struct {
		uint32_t word[4]; /* address, address above 4 GiB, data, control: bit 0 masks */
	} entry[MSIX_MAX];
};

/* Every vector masked, as after a reset. */
void msix_init(struct msix *msix, unsigned nr);

/* Send vector @vector, or note it where it is masked. One that does not exist: nothing. */
void msix_raise(struct msix *msix, const struct device_host *host, unsigned vector);

/* The guest wrote the capability's control word; messages that waited may go out. */
void msix_control(struct msix *msix, const struct device_host *host, uint16_t control);

/* The table and the pending bits as the guest sees them, 4 or 8 bytes at a time, aligned. */
uint64_t msix_table_read(const struct msix *msix, uint32_t offset, unsigned len);
void msix_table_write(struct msix *msix, const struct device_host *host, uint32_t offset,
		      unsigned len, uint64_t value);
/* Save or load table and pending bits (devices/state.h). */
void msix_state(struct msix *msix, struct state *s);
uint64_t msix_pending_read(const struct msix *msix, uint32_t offset, unsigned len);

#endif
