/*
 * devices/ - the devices a guest needs: 16550 serial, IOAPIC, virtio-mmio with
 * block and pmem, the exit port.
 *
 * A device is reached through a bus: port I/O or MMIO, looked up by address.
 * It touches guest memory only through ept_map()/ept_read()/ept_write() with
 * EPT_ORIGIN_DEVICE, and raises interrupts through the callback it was given.
 * Everything a guest writes is hostile; a device that a guest drives wrong
 * marks itself broken (DEVICE_NEEDS_RESET) or fails the request, the others go
 * on.
 *
 * Locks: bus_read() and bus_write() may be called by several vCPU threads at
 * once; each device has a lock of its own, never held while a callback of
 * another device runs, except the IOAPIC's lock, which is innermost. Adding
 * and destroying devices is for the thread that builds the VM.
 */
#ifndef FOAL_DEVICES_H
#define FOAL_DEVICES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ept/ept.h"

struct device;
struct bus;

/* What the machine offers to its devices; outlives them all. */
struct device_host {
	void *ctx;
	const char *vm_name;
	struct ept_space *memory;
	/* Set the level of IOAPIC pin @pin. A pulse is two calls. */
	void (*set_pin)(void *ctx, unsigned pin, bool level);
	/* Deliver a message-signalled interrupt (SDM 3A 11.11: address, data). */
	void (*send_msi)(void *ctx, uint64_t addr, uint32_t data);
	/*
	 * Pin @pin is now routed so (masked: it delivers nothing new); told before
	 * the first interrupt goes that way. KVM needs it to report a level EOI,
	 * also of an interrupt that was in service when its pin got masked: @addr
	 * and @data hold for that. A pin that was never unmasked is never told of.
	 */
	void (*route_pin)(void *ctx, unsigned pin, uint64_t addr, uint32_t data, bool masked);
	/* The guest asks to end the run with @status. */
	void (*guest_exit)(void *ctx, int status);
};

/* One row of the table of device kinds; see devices_kinds[]. */
struct device_ops {
	const char *kind;
	/* @len is 1, 2, 4 or 8; @offset + @len lies inside the device's range. */
	uint64_t (*read)(struct device *dev, uint64_t offset, unsigned len);
	void (*write)(struct device *dev, uint64_t offset, unsigned len, uint64_t value);
	/* Stop threads and finish or drop requests; what was flushed is durable. */
	void (*stop)(struct device *dev);
	void (*destroy)(struct device *dev);
};

/* Every kind of device there is, NULL-terminated. */
extern const struct device_ops *const devices_kinds[];

/* --- buses -------------------------------------------------------------------- */

struct bus *bus_create(void);
/* Stops and destroys every device on it. */
void bus_destroy(struct bus *bus);
void bus_stop(struct bus *bus);

/*
 * Put @dev at [@base, @base + @size). The bus owns it from then on, also on
 * failure. Errors: -EEXIST (overlap), -EINVAL, -ENOMEM.
 */
int bus_attach(struct bus *bus, struct device *dev, uint64_t base, uint64_t size);

/*
 * Access by a guest. @len is 1..8; an access that no device takes, crosses the
 * end of one or has an odd width reads as all ones and writes nothing. Returns
 * whether a device took it.
 */
bool bus_read(struct bus *bus, uint64_t addr, void *data, unsigned len);
bool bus_write(struct bus *bus, uint64_t addr, const void *data, unsigned len);

/* --- interrupt controller ------------------------------------------------------ */

/*
 * I/O APIC (Intel 82093AA), FOAL_IOAPIC_PINS pins, edge and level. Delivers by
 * host->send_msi. ioapic_set_pin is what host->set_pin should end in.
 */
int ioapic_create(const struct device_host *host, struct device **out);
void ioapic_set_pin(struct device *ioapic, unsigned pin, bool level);
/* A local APIC saw the end of level-triggered @vector. */
void ioapic_eoi(struct device *ioapic, uint8_t vector);

/* --- serial -------------------------------------------------------------------- */

/*
 * 16550A at a port range of 8, interrupt driven on IOAPIC pin @pin. Output goes
 * to @out_fd (borrowed; negative: dropped) with write(2), retried on EINTR and
 * EAGAIN until stop: a vCPU whose output nobody takes waits until bus_stop(). A
 * reader that is gone is no error (the process has to ignore SIGPIPE).
 */
int serial_create(const struct device_host *host, unsigned pin, int out_fd, struct device **out);

/*
 * Offer input typed by the user. Returns how many bytes were taken (up to 4 KiB
 * wait for a guest that does not read yet); the rest is to be offered again
 * when serial_wants_input() says so. The guest gets to see them once it sets
 * RTS or enables the receive interrupt.
 */
size_t serial_input(struct device *serial, const void *data, size_t len);
bool serial_wants_input(struct device *serial);

/* --- ending a run --------------------------------------------------------------- */

/* The exit port (guest/abi.h): a write ends the run through host->guest_exit. */
int exit_port_create(const struct device_host *host, struct device **out);

/* --- virtio-mmio ------------------------------------------------------------------ */

/* Put before each disk file: how the guest's writes are treated. */
enum disk_mode {
	DISK_RO,     /* VIRTIO_BLK_F_RO; writes fail */
	DISK_COW,    /* writes go to memory of this run; the file is never written */
	DISK_SHARED, /* writes go to the file; flush is fdatasync */
};

/* Listed once: declared, summed, printed and exported from here. */
#define DISK_COUNTERS(X) \
	X(reads, "reads")		  /* requests, also the failed ones */ \
	X(writes, "writes")		  /* the same; writing zeroes counts here */ \
	X(flushes, "flushes")		  /* the same */ \
	X(discards, "discards")		  /* the same */ \
	X(errors, "errors")		  /* requests of any kind that failed */ \
	X(bytes_read, "bytes_read")	  /* delivered to the guest */ \
	X(bytes_written, "bytes_written") /* taken from the guest */

struct disk_stats {
#define X(field, name) uint64_t field;
	DISK_COUNTERS(X)
#undef X
	uint64_t file_bytes; /* size of the file when it was opened */
	uint64_t file_read;  /* bytes of it ever read, each once, in blocks of 4 KiB */
};

/*
 * virtio-blk (virtio 1.2 section 5.2) over the open file @fd, its registers
 * 0x200 bytes of MMIO, its interrupt on @pin. Requests run on a thread of the
 * device's own, started when the driver is ready. @fd is dup'ed; the last part
 * of the path @name is the disk's serial number. Errors: -EINVAL (no regular
 * file or block device, empty, size no multiple of 512, or O_APPEND), -EBADF
 * (not open for what @mode needs), -ENOMEM, -EMFILE.
 */
int virtio_blk_create(const struct device_host *host, unsigned pin, int fd, const char *name,
		      enum disk_mode mode, struct device **out);
void virtio_blk_stats(struct device *blk, struct disk_stats *out);

/*
 * virtio-pmem (virtio 1.2 section 5.19) for @area: announces where it lies and
 * serves flush requests with ept_area_sync(). Reads and writes never come here.
 */
int virtio_pmem_create(const struct device_host *host, unsigned pin, struct ept_area *area,
		       struct device **out);

/* NULL, or one line saying why the device needs a reset. For any device. */
const char *device_broken(struct device *dev);

#endif
