/* A split virtqueue (virtio 1.2, 2.7) of a device behind MMIO. */
#ifndef TEST_KVM_GUEST_VIRTQUEUE_H
#define TEST_KVM_GUEST_VIRTQUEUE_H

#include <stdint.h>

enum { QUEUE_SIZE = 4 };
enum { DESC_NEXT = 1, DESC_WRITE = 2 };

struct virtqueue {
	struct {
		uint64_t addr;
		uint32_t len;
		uint16_t flags, next;
	} desc[QUEUE_SIZE];
	struct {
		uint16_t flags, index, ring[QUEUE_SIZE];
	} avail;
	struct {
		uint16_t flags, index;
		struct {
			uint32_t id, len;
		} ring[QUEUE_SIZE];
	} used __attribute__((aligned(4)));
} __attribute__((aligned(16)));

/*
 * Reset the device with registers at @base, negotiate VIRTIO_F_VERSION_1 and @features, of the
 * lower 32, and begin; its queue @index is @queue, or none is if that is NULL. Ends the guest
 * with GUEST_BAD_DEVICE if the device refuses.
 */
void virtio_set_up(uint64_t base, uint32_t features, unsigned index, struct virtqueue *queue);

#endif
