/*
 * What tells a VM from its copies, said as who types asks:
 *
 *   a   address of the network, as its configuration has it
 *   c   CID of vsock, the same
 *   n   interrupt status of the network: 2, its configuration changed; acknowledged
 *   l   status of the link: 1, up
 *   e   events of vsock so far
 *   i   the VM generation ID
 *   r   32 bytes of the rng device, asked for now
 *   h   32 bytes that RDRAND gives; "none" where there is none
 *   b   sector 3 of the disk: its first word; B: and then one more is written there
 *   q   end with status 7
 *
 * Each in a line of its own. Devices that are not there are left alone.
 */
#include "tests/kvm/guests/lib/guest.h"
#include "tests/kvm/guests/lib/virtio_regs.h"
#include "tests/kvm/guests/lib/virtqueue.h"

enum { KIND_NET = 1, KIND_BLK = 2, KIND_RNG = 4, KIND_VSOCK = 19 };
enum { NET_F_MAC = 1 << 5, NET_F_STATUS = 1 << 16 };
enum { REG_INTERRUPT = 0x060, REG_ACK = 0x064 };

static struct virtqueue rng_queue, event_queue;
static uint64_t net, vsock, rng;

/* Offer the device @len bytes at @at. */
static void offer(uint64_t base, unsigned index, struct virtqueue *queue, volatile void *at,
		  uint32_t len)
{
	uint16_t slot = queue->avail.index % QUEUE_SIZE;

	queue->desc[slot].addr = (uintptr_t)at;
	queue->desc[slot].len = len;
	queue->desc[slot].flags = DESC_WRITE;
	queue->avail.ring[slot] = slot;
	__asm__ volatile("" ::: "memory");
	queue->avail.index++;
	__asm__ volatile("mfence" ::: "memory");
	poke32(base + REG_QUEUE_NOTIFY, index);
}

static uint16_t used(const struct virtqueue *queue)
{
	return *(const volatile uint16_t *)&queue->used.index;
}

static uint8_t byte_at(uint64_t at)
{
	return *(volatile uint8_t *)at;
}

static uint16_t word_at(uint64_t at)
{
	return *(volatile uint16_t *)at;
}

static void say_bytes(const volatile uint64_t *words, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		say_hex(words[i]);
}

static void say_address(void)
{
	uint64_t address = 0;

	for (unsigned i = 0; i < 6; i++)
		address = address << 8 | byte_at(net + REG_CONFIG + i);
	say_hex(address);
}

static void draw(void)
{
	static volatile uint64_t drawn[4];

	for (unsigned i = 0; i < 4; i++)
		drawn[i] = 0;
	offer(rng, 0, &rng_queue, drawn, sizeof(drawn));
	while (used(&rng_queue) != rng_queue.avail.index)
		__asm__ volatile("pause");
	say_bytes(drawn, 4);
}

static void draw_of_the_processor(void)
{
	uint32_t a = 1, b, c, d;
	uint64_t words[4];
	uint8_t ok = 1;

	__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "=c"(c), "=d"(d));
	if (!(c >> 30 & 1)) {
		say("none");
		return;
	}
	for (unsigned i = 0; i < 4; i++)
		do
			__asm__ volatile("rdrand %0; setc %1" : "=r"(words[i]), "=qm"(ok)::"cc");
		while (!ok);
	say_bytes(words, 4);
}

static void sector(bool write)
{
	static uint64_t data[64];

	expect(disk_transfer(3, data, sizeof(data), false), GUEST_BAD_DEVICE);
	say_hex(data[0]);
	data[0]++;
	if (write)
		expect(disk_transfer(3, data, sizeof(data), true), GUEST_BAD_DEVICE);
}

static void serve(int c)
{
	static const uint64_t id = FOAL_VMGENID;

	if (c == 'a')
		say_address();
	else if (c == 'c')
		say_hex(peek32(vsock + REG_CONFIG));
	else if (c == 'n') {
		uint32_t status = peek32(net + REG_INTERRUPT);

		poke32(net + REG_ACK, status);
		say_hex(status);
	} else if (c == 'l')
		say_hex(word_at(net + REG_CONFIG + 6));
	else if (c == 'e')
		say_hex(used(&event_queue));
	else if (c == 'i')
		say_bytes((const volatile uint64_t *)id, 2);
	else if (c == 'r')
		draw();
	else if (c == 'h')
		draw_of_the_processor();
	else if (c == 'b' || c == 'B')
		sector(c == 'B');
	say("\n");
}

unsigned guest_main(const struct start_info *info)
{
	static volatile uint64_t events[QUEUE_SIZE];

	(void)info;
	net = virtio_device(KIND_NET, 0);
	vsock = virtio_device(KIND_VSOCK, 0);
	rng = virtio_device(KIND_RNG, 0);
	if (net)
		virtio_set_up(net, NET_F_MAC | NET_F_STATUS, 0, NULL);
	if (vsock) {
		virtio_set_up(vsock, 0, 2, &event_queue);
		for (unsigned i = 0; i < QUEUE_SIZE; i++)
			offer(vsock, 2, &event_queue, &events[i], sizeof(events[i]));
	}
	if (rng)
		virtio_set_up(rng, 0, 0, &rng_queue);
	out8(FOAL_PORT_COM1 + 4, 0x0b); /* DTR, RTS, OUT2: input is welcome */
	say("ready\n");
	for (;;) {
		int c = heard();

		if (c == 'q')
			return 7;
		if (c >= 0)
			serve(c);
	}
}
