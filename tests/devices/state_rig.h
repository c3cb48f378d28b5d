/* One machine of a device whose state is saved and loaded, and bytes of state made wrong. */
#ifndef FOAL_TESTS_STATE_RIG_H
#define FOAL_TESTS_STATE_RIG_H

#include "devices/devices.h"
#include "tests/devices/fake_ept.h"

/* Kinds from 0 on: virtio's as in fuzz_host.h, then the others. */
#define STATE_VIRTIO_KINDS 10
#define STATE_KINDS	   18

struct state_machine {
	struct ept_space *memory;
	struct ept_area area;
	struct device_host host;
	struct bus *bus;
	unsigned kind;
};

/* A machine with a device of @kind, its threads not started. */
void state_machine_init(struct state_machine *m, unsigned kind);
void state_machine_fini(struct state_machine *m);

/* Touch every register of it, and the queues of a virtio device. */
void state_machine_use(struct state_machine *m);

/* Make length and checksum of @len bytes right again, whatever they say. */
void state_seal(unsigned char *bytes, size_t len);

#endif
