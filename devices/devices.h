/*
 * devices/ - the devices a guest needs: 16550 serial, IOAPIC, virtio (over MMIO
 * or PCI) with block, pmem, net, console, rng, balloon and vsock, ACPI's
 * registers, a clock, the exit port. What few callers need stands apart:
 * devices/fw_cfg.h (firmware), and the records that go over a helper's socket,
 * devices/vsock_connector.h and devices/nbd/protocol.h.
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
struct disk_backend;
struct disk_layer;
struct state;

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
	/*
	 * Optional: have what a guest writes to MMIO at @addr, in any width, add to
	 * the eventfd @fd and not come to bus_write(), until the same with @on false or
	 * the VM's end. Called on any thread. 0 or a negative errno, which means that
	 * writes go on coming.
	 */
	int (*doorbell)(void *ctx, uint64_t addr, int fd, bool on);
	/* Optional: before each thread of a device is made, by the one who makes it. */
	void (*thread_expected)(void *ctx);
	/* Optional: the first thing that a thread of a device calls; @kind says of which. */
	void (*thread_begins)(void *ctx, const char *kind);
	/*
	 * Optional: what the guest writes to a console, whether its descriptor takes it or
	 * not; in order, of one console. Must not wait.
	 */
	void (*console)(void *ctx, const void *data, size_t len);
	/* The guest asks to end the run with @status. */
	void (*guest_exit)(void *ctx, int status);
	/* Optional: the guest says that it is ready. On a vCPU's thread; must not wait. */
	void (*guest_ready)(void *ctx);
	/* The guest resets its machine. */
	void (*guest_reset)(void *ctx);
	/*
	 * The guest wrote @what (FOAL_RESET_*) to its reset bell: done once the access is
	 * complete. What it reads there. Only where there is such a device.
	 */
	void (*reset_bell)(void *ctx, uint8_t what);
	uint32_t (*resets)(void *ctx);
};

/* One row of the table of device kinds; see devices_kinds[]. */
struct device_ops {
	const char *kind;
	/* @len is 1, 2, 4 or 8; @offset + @len lies inside the device's range. */
	uint64_t (*read)(struct device *dev, uint64_t offset, unsigned len);
	void (*write)(struct device *dev, uint64_t offset, unsigned len, uint64_t value);
	/*
	 * Optional: start threads; the device lies at @base. 0 or a negative errno;
	 * stop and destroy follow all the same.
	 */
	int (*start)(struct device *dev, uint64_t base);
	/*
	 * Optional, for devices with threads of their own: begin nothing new, finish
	 * what is under way. Waits for that until @deadline (CLOCK_MONOTONIC, ns; 0: not
	 * at all). NULL: it is at rest; or who is not. release: go on.
	 */
	struct device *(*hold)(struct device *dev, uint64_t deadline);
	void (*release)(struct device *dev);
	/* Optional, for the same: the process was forked, and its threads are the parent's. */
	void (*forked)(struct device *dev);
	/* Stop threads and finish or drop requests; what was flushed is durable. */
	void (*stop)(struct device *dev);
	void (*destroy)(struct device *dev);
	/*
	 * Save or load what the guest can tell, as a record of @state_version (see
	 * bus_state()). Without one the device has no state. Any change of what is
	 * saved is another version.
	 */
	bool (*state)(struct device *dev, struct state *s);
	unsigned state_version;
	/*
	 * Optional: does a device that is at rest remember more than its state tells (a
	 * connection, a buffer that it holds)? Then loading the same state changes something.
	 */
	bool (*remembers)(const struct device *dev);
};

/* Every kind of device there is, NULL-terminated. */
extern const struct device_ops *const devices_kinds[];

/* --- buses -------------------------------------------------------------------- */

struct bus *bus_create(void);
/*
 * Start the devices, once, on the thread that built them: their threads inherit
 * what it is confined to. The first error ends it.
 */
int bus_start(struct bus *bus);
/* Stops and destroys every device on it. */
void bus_destroy(struct bus *bus);
void bus_stop(struct bus *bus);

/*
 * Bring every device to rest while no vCPU runs: requests under way are finished,
 * those that the driver made available stay in their rings, and no thread of a device
 * touches guest memory, a queue or an interrupt until bus_release(). Waits until
 * @deadline (CLOCK_MONOTONIC, ns). NULL: all are at rest; or one that is not, and
 * again or bus_release() is to be called. What the monitor itself calls
 * (serial_input() etc.) is for the monitor to hold. Neither waits for a vCPU.
 */
struct device *bus_hold(struct bus *bus, uint64_t deadline);
void bus_release(struct bus *bus);

/*
 * In a child that was forked while the bus was held, by its one thread: no thread of a device is
 * there. From here on it is good for bus_destroy() alone, which closes the child's copies.
 */
void bus_forked(struct bus *bus);

/*
 * Save or load the state of every device on @bus (devices/state.h), a record each in
 * the order of their addresses; interrupt controllers come last: what others do to their
 * pins while they load does not count. Nothing else touches the devices
 * meanwhile: no vCPU runs, no request is under way. Loading is for a bus with the
 * same devices, started or not; what the host has open stays the machine's own.
 * False: s->error says why, and a bus that was loaded is good for bus_destroy() alone.
 */
bool bus_state(struct bus *bus, struct state *s);

/*
 * The same for devices that were loaded from these bytes, or saved to them, before, and have
 * run since: those that are in that state still are left alone. @room is state_room()'s.
 */
bool bus_go_back(struct bus *bus, struct state *s, struct state *room);

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
 * later. The guest gets to see them once it sets RTS or enables the receive
 * interrupt.
 */
size_t serial_input(struct device *serial, const void *data, size_t len);

/* --- ending a run --------------------------------------------------------------- */

/* The exit port (guest/abi.h): a write ends the run through host->guest_exit. */
int exit_port_create(const struct device_host *host, struct device **out);

/* The ready port (guest/abi.h): a write calls host->guest_ready. */
int ready_port_create(const struct device_host *host, struct device **out);

/*
 * The reset bell (guest/abi.h, docs/reset.md), FOAL_PORT_RESET_BELL_LEN ports at
 * FOAL_PORT_RESET_BELL: host->reset_bell and host->resets.
 */
int reset_bell_create(const struct device_host *host, struct device **out);

/* --- the platform of a stock kernel (docs/acpi.md) ------------------------------------ */

/*
 * ACPI's registers, FOAL_PORT_ACPI_LEN ports at FOAL_PORT_ACPI: power-off is
 * host->guest_exit(0), reset host->guest_reset.
 */
int acpi_pm_create(const struct device_host *host, struct device **out);
/* Those told of that the guest has not taken yet. */
uint32_t acpi_pm_pending(struct device *acpi_pm);
/* Tell the guest of @events (FOAL_ACPI_POWER_BUTTON, FOAL_ACPI_GENERATION). Any thread. */
void acpi_pm_raise(struct device *acpi_pm, uint32_t events);

/*
 * Give the VM a generation ID that no VM had before, and tell the guest through
 * @acpi_pm if it has run already (NULL: it has not). Errors: those of ept_write().
 */
int vmgenid_renew(const struct device_host *host, struct device *acpi_pm);

/* The reset command of the keyboard controller, one port at FOAL_PORT_I8042. */
int i8042_create(const struct device_host *host, struct device **out);

/* The chipset's reset control, one port at FOAL_PORT_RESET; not where there is PCI. */
int reset_port_create(const struct device_host *host, struct device **out);

struct rtc_config {
	uint64_t low_memory, high_memory; /* bytes of RAM below and above 4 GiB */
	unsigned cpus;
	uint64_t (*now)(void); /* nanoseconds since 1970, UTC; any thread */
};

/* The PC's clock (MC146818) and its memory, FOAL_PORT_RTC_LEN ports at FOAL_PORT_RTC. */
int rtc_create(const struct device_host *host, const struct rtc_config *config,
	       struct device **out);

/* --- virtio ------------------------------------------------------------------------ */

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
 * device's own. @fd is dup'ed; the last part of the path @name is the disk's
 * serial number. Errors: -EINVAL (no regular file or block device, empty, size
 * no multiple of 512, or O_APPEND), -EBADF (not open for what @mode needs),
 * -ENOMEM, -EMFILE.
 */
int virtio_blk_create(const struct device_host *host, unsigned pin, int fd, const char *name,
		      enum disk_mode mode, struct device **out);
/*
 * The same over @backend, which is the device's from then on, also on failure.
 * -EROFS: it cannot be written as @mode asks.
 */
int virtio_blk_create_on(const struct device_host *host, unsigned pin, struct disk_backend *backend,
			 const char *name, enum disk_mode mode, struct device **out);

/*
 * The disk of a companion program (devices/nbd/protocol.h) behind @socket, which
 * is dup'ed and has to be non-blocking. Waits until the companion is connected,
 * 30 s at most. Errors: the companion's or its server's, with words for the
 * user in @text (DISK_TEXT bytes; may stay empty).
 */
#define DISK_TEXT 256
int disk_remote_open(int socket, bool writable, struct disk_backend **out, char *text);
/*
 * Behind @companion, a socket that was given to virtio_blk_share(), and not opened: have one more
 * companion for the same disk, with @socket, whose other end is to be opened. Waits for one that
 * is busy with others. 0 or -EPIPE.
 */
int disk_remote_share(int companion, int socket);
/* The same that is about to be opened: what it has to say goes to @fd, else nowhere. 0 or -EPIPE.
 */
int disk_remote_log(int companion, int fd);
/* One that no disk took. NULL is allowed. */
void disk_backend_close(struct disk_backend *backend);

void virtio_blk_stats(struct device *blk, struct disk_stats *out);

/*
 * What the guest wrote to a copy-on-write disk, which no file has. Freeze it while the device
 * is held (bus_hold()): it is not written again, and the guest's further writes go
 * elsewhere. Then write it to the empty file @fd (docs/formats.md), while the guest runs
 * or in a child of this process. Load it before the device is started; @fd is dup'ed, and
 * each block checked when it is read: one that is damaged is an I/O error to the guest. 0 or
 * a negative errno: -EINVAL, no layer of this disk; -EBADMSG, damaged.
 */
#define DISK_LAYERS_MAX 256		   /* each is a descriptor, and looked at for a block */
int virtio_blk_freeze(struct device *blk); /* also -EMLINK: it has so many */
int virtio_blk_save_layers(struct device *blk, int fd);
/* Several times: oldest first, each the difference to those before. */
int virtio_blk_load_layer(struct device *blk, int fd);
/*
 * The same without a file, in a child that was forked: what was frozen, of a device that is to be
 * destroyed, becomes a new one's, which was not started. NULL: there is nothing.
 */
struct disk_layer *virtio_blk_give_layers(struct device *blk);
/*
 * Of a disk behind a companion that only reads, while the device is held: another companion
 * comes with @socket, whose other end is for disk_remote_open(). 0 or -EPIPE: it is gone.
 */
int virtio_blk_share(struct device *blk, int socket);
void virtio_blk_take_layers(struct device *blk, struct disk_layer *layers);
/*
 * Only what differs from @count such files, newest first; their descriptors are taken. -ESTALE:
 * they have blocks that the guest did not write, or not any more, and its companion would have to
 * read.
 */
int virtio_blk_save_difference(struct device *blk, int fd, const int *parents, unsigned count);
/*
 * For a reader that ends: freeze; in it, when it has read, virtio_blk_fold(); if that
 * was 0, when it is gone, virtio_blk_folded(). So layers do not pile up (devices/disk.h).
 */
int virtio_blk_freeze_passing(struct device *blk);
int virtio_blk_fold(struct device *blk);
void virtio_blk_folded(struct device *blk);
/*
 * For a reset: what a copy-on-write disk holds now is what going back leaves of it (a disk of
 * another mode is not changed). Both while the device is held. -ENOMEM.
 */
int virtio_blk_mark(struct device *blk);
void virtio_blk_go_back(struct device *blk);
/* Check every block of such a file; *@block is the first that is damaged (-EBADMSG). */
int disk_layer_verify(int fd, uint64_t *block);
/* What the files @fds, newest first, are together, to the empty file @out. */
int disk_layer_merge(const int *fds, unsigned count, int out);

/*
 * virtio-pmem (virtio 1.2 section 5.19) for @area: announces where it lies and
 * serves flush requests with ept_area_sync(). Reads and writes never come here.
 */
int virtio_pmem_create(const struct device_host *host, unsigned pin, struct ept_area *area,
		       struct device **out);

/* Where the frames of a guest's network device go. */
enum net_kind {
	NET_TAP,    /* a tap interface: IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, header of 12 bytes */
	NET_STREAM, /* a stream socket, a frame after its length, 32 bits, big-endian */
};

struct net_config {
	enum net_kind kind;
	int fd; /* non-blocking */
	uint8_t mac[6];
	uint16_t mtu; /* told to the driver; 0: nothing is */
};

/* Listed once: declared, summed, printed and exported from here. */
#define NET_COUNTERS(X) \
	X(rx_frames, "rx_frames")   /* given to the guest */ \
	X(rx_bytes, "rx_bytes")	    /* the same, without virtio's header */ \
	X(rx_dropped, "rx_dropped") /* did not fit the guest's buffers */ \
	X(tx_frames, "tx_frames")   /* sent for the guest */ \
	X(tx_bytes, "tx_bytes")	    /* the same */ \
	X(tx_dropped, "tx_dropped") /* wrong, or taken by nobody */

struct net_stats {
#define X(field, name) uint64_t field;
	NET_COUNTERS(X)
#undef X
};

/*
 * virtio-net (virtio 1.2 section 5.1), one pair of queues. The descriptor is
 * dup'ed. When its other end goes the guest's link is down, nothing more.
 * Errors: -ENOMEM, -EMFILE.
 */
int virtio_net_create(const struct device_host *host, unsigned pin, const struct net_config *config,
		      struct device **out);
void virtio_net_stats(struct device *net, struct net_stats *out);

/* Bytes; listed once: declared, printed and exported from here. */
#define BALLOON_COUNTERS(X) \
	X(inflated, "inflated")	    /* put into the balloon by the guest */ \
	X(deflated, "deflated")	    /* taken out again */ \
	X(reported, "reported")	    /* said to be free */ \
	X(hinted, "hinted")	    /* the same, to who asked for hints */ \
	X(given_back, "given_back") /* of inflated and reported, given to the host */

#define BALLOON_GUEST_STATS 10 /* VIRTIO_BALLOON_S_NR */

struct balloon_stats {
#define X(field, name) uint64_t field;
	BALLOON_COUNTERS(X)
#undef X
	uint64_t target, actual; /* bytes the balloon is to hold, and holds by the guest's word */
	uint64_t guest[BALLOON_GUEST_STATS]; /* by VIRTIO_BALLOON_S_*, as told; ~0: not */
};

/*
 * virtio-balloon (virtio 1.2 section 5.5): pages that the guest does not need
 * are given back with ept_discard_anonymous(). @target: how many bytes the
 * guest is asked to put aside; it may do less. Errors: -EINVAL (2^44 and more),
 * -ENOMEM, -EMFILE.
 */
int virtio_balloon_create(const struct device_host *host, unsigned pin, uint64_t target,
			  struct device **out);

/* Another target; the guest hears of it. -EINVAL as above. Any thread. */
int virtio_balloon_set_target(struct device *balloon, uint64_t bytes);

/* Ask the guest for its statistics anew. */
void virtio_balloon_ask(struct device *balloon);

/*
 * Have the guest name what is free from now on, until called with NULL. A hint
 * holds only if the page was not written since this call (virtio 1.2, 5.5.6.6):
 * the caller watches writes. @hint must not block or call back.
 */
typedef void balloon_hint_fn(void *ctx, gpa_t gpa, uint64_t len);
void virtio_balloon_hints(struct device *balloon, balloon_hint_fn *hint, void *ctx);

void virtio_balloon_stats(struct device *balloon, struct balloon_stats *out);

/* virtio-rng (virtio 1.2 section 5.4): getrandom(2). Errors: -ENOMEM, -EMFILE. */
int virtio_rng_create(const struct device_host *host, unsigned pin, struct device **out);

/*
 * virtio-console (virtio 1.2 section 5.3), one port: the guest's hvc0. Output
 * goes to @out_fd (borrowed; negative: dropped) as its reader takes it; a
 * descriptor that may block (not O_NONBLOCK, and no file) is written a byte at a
 * time. @cols and @rows are those of the terminal, or 0. Errors: -ENOMEM, -EMFILE.
 */
int virtio_console_create(const struct device_host *host, unsigned pin, int out_fd, uint16_t cols,
			  uint16_t rows, struct device **out);

/* Offer input; as serial_input(): returns how many bytes were taken. */
size_t virtio_console_input(struct device *console, const void *data, size_t len);

/* Listed once: declared, printed and exported from here. */
#define VSOCK_COUNTERS(X) \
	X(from_guest, "from_guest") /* connections that the guest began, and were made */ \
	X(from_host, "from_host")   /* the same of the host */ \
	X(resets, "resets")	    /* that the guest was sent */ \
	X(bytes_to_guest, "bytes_to_guest") \
	X(bytes_to_host, "bytes_to_host")

struct vsock_stats {
#define X(field, name) uint64_t field;
	VSOCK_COUNTERS(X)
#undef X
};

/*
 * virtio-vsock (virtio 1.2 section 5.10), stream sockets, for guest @cid. Who
 * connects to the Unix socket @listener and writes "CONNECT PORT\n" gets that
 * port of the guest and "OK N\n"; what the guest connects to is asked of
 * @connector (devices/vsock_connector.h). Both are dup'ed and have to be
 * non-blocking. Errors: -ENOMEM, -EMFILE.
 */
int virtio_vsock_create(const struct device_host *host, unsigned pin, uint32_t cid, int listener,
			int connector, struct device **out);
void virtio_vsock_stats(struct device *vsock, struct vsock_stats *out);

/* --- PCI ------------------------------------------------------------------------------ */

struct pci;

/*
 * A PCI root: attaches the ways to its configuration space and the window of its
 * BARs (guest/abi.h) to the buses, which own it from then on. Slot 0 is the
 * bridge. Errors: -ENOMEM, -EEXIST.
 */
int pci_create(const struct device_host *host, struct bus *pio, struct bus *mmio, struct pci **out);

/*
 * Have @virtio, a virtio device that is on no bus, reached through PCI (virtio
 * 1.2 section 4.1, no transitional device) in the next free slot. @pci owns it
 * from then on, also on failure. Errors: -ENOSPC (31 devices), -ENOMEM.
 */
int pci_add_virtio(struct pci *pci, struct device *virtio);

/* --- all devices ---------------------------------------------------------------------- */

/* What it is, a word: its row in devices_kinds[]. */
const char *device_kind(const struct device *dev);

/* NULL, or one line saying why the device needs a reset. For any device. */
const char *device_broken(struct device *dev);

#endif
