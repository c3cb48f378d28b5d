/*
 * What a virtio-vsock device says to its connector, a process that opens the
 * host's Unix sockets for it: the device itself could open any, a connector
 * knows no others than PATH_PORT. Records over a stream socket, host byte order.
 */
#ifndef FOAL_DEVICES_VSOCK_CONNECTOR_H
#define FOAL_DEVICES_VSOCK_CONNECTOR_H

#include <stdint.h>

struct vsock_ask {
	uint32_t tag; /* comes back in the answer */
	uint32_t port;
};

struct vsock_answer {
	uint32_t tag;
	int32_t
	    error; /* 0, and a connected non-blocking socket by SCM_RIGHTS, or a negative errno */
};

#endif
