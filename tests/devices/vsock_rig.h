/* The driver of a virtio-vsock device, its connector, and clients on the host. */
#ifndef FOAL_TESTS_VSOCK_RIG_H
#define FOAL_TESTS_VSOCK_RIG_H

#include <linux/virtio_vsock.h>
#include <stdatomic.h>

#include "tests/devices/rig.h"

#define WRITE  VRING_DESC_F_WRITE
#define CID    42
#define HEADER sizeof(struct virtio_vsock_hdr)
/* Where packets come from and go to; receive buffers are a page apart. */
#define TX_AT  0x200000UL
#define RX_AT  0x300000UL
#define RX_LEN 4096
#define RING   128
#define CREDIT 65536u

enum { RX, TX, EVENT };

extern struct rig vsock_rig;
/* Before vsock_set_up(): the device's end of the connector is a blocking one with little room. */
extern bool vsock_connector_blocks;
extern int vsock_listener, vsock_connector; /* the connector's own end */

/* Fixtures: a device and its driver. */
void vsock_set_up(void);
void vsock_tear_down(void);
/* Also a reset: a driver with fresh rings. */
void start_driver(void);

/* --- the guest ----------------------------------------------------------------------------- */

/* Have one more buffer to receive into. */
void give_buffer(uint32_t len);

/* A sound header between these ports. */
struct virtio_vsock_hdr packet(uint32_t guest, uint32_t host, uint16_t op, uint32_t len);
/* Offer a packet of @chain_len bytes, whatever it says of itself. */
void offer_packet(struct virtio_vsock_hdr hdr, const void *data, uint32_t chain_len);
/* The same with @len bytes of data; wait until it is taken. */
void send_packet(struct virtio_vsock_hdr hdr, const void *data, uint32_t len);
void send_op(uint32_t guest, uint32_t host, uint16_t op);

/* The next packet for the guest, which has to be of this connection (0: any host's port) and
 * operation. */
struct virtio_vsock_hdr expect_packet(uint32_t guest, uint32_t host, uint16_t op, void *data);

/* --- the host ------------------------------------------------------------------------------- */

/* How the connector answers. */
enum answer {
	REFUSE,
	CONNECTED,
	BLOCKING, /* a socket on which reads and writes wait */
	TWO,	  /* two sockets where one is due */
	KEPT,	  /* the connector keeps its own descriptor of the socket */
	SHORT,	  /* a socket with half a record */
};

extern int kept_socket; /* by KEPT */

/* Answer what the device asks the connector: the other end of the socket it gets, or -1. */
int connect_as(uint32_t port, enum answer how);

/* A connection that the guest began, from its port to the host's. */
int guest_connects_as(uint32_t guest, uint32_t host, enum answer how);
int guest_connects(uint32_t guest, uint32_t host);

/* A client of the host that has sent @line. */
int host_connects(const char *line);

/* --- what the device watches ---------------------------------------------------------------- */

/* Calls of epoll_ctl(2) by a vCPU, which is the test's thread and may make none. */
extern atomic_uint vsock_vcpu_epolls;
/* How many times a connection was watched for room. */
extern atomic_uint vsock_waits;

#endif
