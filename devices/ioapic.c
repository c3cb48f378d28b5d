/*
 * I/O APIC, after Intel's 82093AA datasheet (order number 290566), with more
 * pins. Two registers select and move one of the indexed ones:
 *
 *   0x00        ID (bits 24..27)
 *   0x01        version 0x11, number of the last pin (bits 16..23)
 *   0x02        arbitration ID
 *   0x10 + 2n   redirection entry of pin n, low half; the next index its high half
 *
 * A pin's line is "asserted" or not: whoever drives it knows its polarity, so
 * the polarity bit is kept for the guest and otherwise unused.
 *
 * An edge that comes while the pin is masked is lost; a level is seen when the
 * mask goes away (datasheet, 3.2.4). A level-triggered pin delivers once, sets
 * Remote IRR, and delivers again at the EOI if its line is still asserted.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "devices/device.h"
#include "devices/state.h"
#include "guest/abi.h"

#define IOREGSEL	 0x00
#define IOWIN		 0x10

#define INDEX_ID	 0x00
#define INDEX_VERSION	 0x01
#define INDEX_ARB	 0x02
#define INDEX_REDIR	 0x10

#define IOAPIC_VERSION	 0x11
#define ID_MASK		 0x0f000000U

#define REDIR_VECTOR	 0xffUL
#define REDIR_DELIVERY	 (7UL << 8)
#define REDIR_LOGICAL	 (1UL << 11)
#define REDIR_POLARITY	 (1UL << 13)
#define REDIR_REMOTE_IRR (1UL << 14)
#define REDIR_LEVEL	 (1UL << 15)
#define REDIR_MASKED	 (1UL << 16)
#define REDIR_DEST_SHIFT 56
/*
 * Bits 8 to 14 of the destination, reserved on the chip: where hypervisors agree
 * to have them, here and in an MSI's address (KVM_FEATURE_MSI_EXT_DEST_ID).
 */
#define REDIR_EXT_DEST	 (0x7fUL << 49)
#define REDIR_EXT_SHIFT	 49
#define MSI_EXT_SHIFT	 5

/* What a guest can write; delivery status and Remote IRR are read-only. */
#define REDIR_WRITABLE \
	(REDIR_VECTOR | REDIR_DELIVERY | REDIR_LOGICAL | REDIR_POLARITY | REDIR_LEVEL | \
	 REDIR_MASKED | REDIR_EXT_DEST | 0xffUL << REDIR_DEST_SHIFT)

/* Delivery modes, at bit 8 both here and in an MSI's data (SDM 3A 11.11.2). */
enum { MODE_FIXED, MODE_LOWEST, MODE_SMI, MODE_NMI = 4, MODE_INIT };

#define MSI_LOGICAL	   (1U << 2)
#define MSI_ASSERT	   (1U << 14)
#define MSI_LEVEL	   (1U << 15)

#define FIRST_LEGAL_VECTOR 16

struct route {
	uint64_t addr;
	uint32_t data;
	bool masked;
};

struct pin {
	uint64_t redir;
	bool asserted;
};

struct ioapic {
	struct device dev;
	pthread_mutex_t lock; /* all below; innermost of all device locks */
	uint8_t select;
	uint32_t id;
	struct pin pins[FOAL_IOAPIC_PINS];
};

static struct ioapic *ioapic_of(struct device *dev)
{
	return device_of(dev, struct ioapic, dev);
}

static unsigned pin_mode(const struct pin *pin)
{
	return (pin->redir & REDIR_DELIVERY) >> 8;
}

/* SMI, NMI and INIT are edges whatever the trigger bit says. */
static bool pin_is_level(const struct pin *pin)
{
	return (pin->redir & REDIR_LEVEL) && pin_mode(pin) <= MODE_LOWEST;
}

/* ExtINT has no 8259 behind it here, and vectors 0..15 are illegal (SDM 3A 11.5.2). */
static bool pin_can_deliver(const struct pin *pin)
{
	if (pin->redir & REDIR_MASKED)
		return false;
	switch (pin_mode(pin)) {
	case MODE_FIXED:
	case MODE_LOWEST:
		return (pin->redir & REDIR_VECTOR) >= FIRST_LEGAL_VECTOR;
	case MODE_SMI:
	case MODE_NMI:
	case MODE_INIT:
		return true;
	}
	return false;
}

/* The message that this entry sends (SDM 3A 11.11.1 and 11.11.2). */
static struct route pin_route(const struct pin *pin)
{
	struct route route = {
	    .addr = FOAL_LAPIC_BASE | (pin->redir >> REDIR_DEST_SHIFT) << 12 |
		    (pin->redir & REDIR_EXT_DEST) >> REDIR_EXT_SHIFT << MSI_EXT_SHIFT,
	    .data = pin->redir & (REDIR_VECTOR | REDIR_DELIVERY),
	    .masked = !pin_can_deliver(pin),
	};

	if (pin->redir & REDIR_LOGICAL)
		route.addr |= MSI_LOGICAL;
	if (pin_is_level(pin))
		route.data |= MSI_LEVEL | MSI_ASSERT;
	return route;
}

static void pin_send(struct ioapic *io, const struct pin *pin)
{
	struct route route = pin_route(pin);

	io->dev.host->send_msi(io->dev.host->ctx, route.addr, route.data);
}

/* A level-triggered pin may have become deliverable. */
static void pin_check_level(struct ioapic *io, struct pin *pin)
{
	if (!pin->asserted || !pin_is_level(pin) || !pin_can_deliver(pin) ||
	    (pin->redir & REDIR_REMOTE_IRR))
		return;
	pin->redir |= REDIR_REMOTE_IRR;
	pin_send(io, pin);
}

void ioapic_set_pin(struct device *ioapic, unsigned pin_nr, bool level)
{
	struct ioapic *io = ioapic_of(ioapic);
	struct pin *pin;

	if (pin_nr >= FOAL_IOAPIC_PINS)
		return;
	pin = &io->pins[pin_nr];
	pthread_mutex_lock(&io->lock);
	if (pin->asserted != level) {
		pin->asserted = level;
		if (pin_is_level(pin))
			pin_check_level(io, pin);
		else if (level && pin_can_deliver(pin))
			pin_send(io, pin);
	}
	pthread_mutex_unlock(&io->lock);
}

void ioapic_eoi(struct device *ioapic, uint8_t vector)
{
	struct ioapic *io = ioapic_of(ioapic);

	pthread_mutex_lock(&io->lock);
	for (unsigned i = 0; i < FOAL_IOAPIC_PINS; i++) {
		struct pin *pin = &io->pins[i];

		if (!(pin->redir & REDIR_REMOTE_IRR) || (pin->redir & REDIR_VECTOR) != vector)
			continue;
		pin->redir &= ~REDIR_REMOTE_IRR;
		pin_check_level(io, pin);
	}
	pthread_mutex_unlock(&io->lock);
}

/*
 * The route is told before anything can go that way. What a masked pin would
 * send is of no interest until it is unmasked.
 */
static void pin_rewrite(struct ioapic *io, unsigned pin_nr, uint64_t value)
{
	struct pin *pin = &io->pins[pin_nr];
	struct route old = pin_route(pin), new;

	pin->redir = (value & REDIR_WRITABLE) | (pin->redir & REDIR_REMOTE_IRR);
	/* Software without a directed EOI clears Remote IRR by a turn to edge and back. */
	if (!pin_is_level(pin))
		pin->redir &= ~REDIR_REMOTE_IRR;

	new = pin_route(pin);
	if (old.masked != new.masked ||
	    (!new.masked && (old.addr != new.addr || old.data != new.data)))
		io->dev.host->route_pin(io->dev.host->ctx, pin_nr, new.addr, new.data, new.masked);
	pin_check_level(io, pin);
}

static uint32_t window_read(const struct ioapic *io)
{
	unsigned index = io->select;

	switch (index) {
	case INDEX_ID:
	case INDEX_ARB:
		return io->id;
	case INDEX_VERSION:
		return IOAPIC_VERSION | (FOAL_IOAPIC_PINS - 1) << 16;
	}
	if (index < INDEX_REDIR || index >= INDEX_REDIR + 2 * FOAL_IOAPIC_PINS)
		return 0;
	index -= INDEX_REDIR;
	return (uint32_t)(io->pins[index / 2].redir >> (index % 2 ? 32 : 0));
}

static void window_write(struct ioapic *io, uint32_t value)
{
	unsigned index = io->select;
	uint64_t redir;

	if (index == INDEX_ID) {
		io->id = value & ID_MASK;
		return;
	}
	if (index < INDEX_REDIR || index >= INDEX_REDIR + 2 * FOAL_IOAPIC_PINS)
		return;
	index -= INDEX_REDIR;
	redir = io->pins[index / 2].redir;
	if (index % 2)
		redir = (redir & UINT32_MAX) | (uint64_t)value << 32;
	else
		redir = (redir & ~(uint64_t)UINT32_MAX) | value;
	pin_rewrite(io, index / 2, redir);
}

static uint64_t ioapic_read(struct device *dev, uint64_t offset, unsigned len)
{
	struct ioapic *io = ioapic_of(dev);
	uint64_t value = 0;

	(void)len;
	pthread_mutex_lock(&io->lock);
	if (offset == IOREGSEL)
		value = io->select;
	else if (offset == IOWIN)
		value = window_read(io);
	pthread_mutex_unlock(&io->lock);
	return value;
}

/* The registers are 32 bits wide; a narrower write of the window would tear an entry. */
static void ioapic_write(struct device *dev, uint64_t offset, unsigned len, uint64_t value)
{
	struct ioapic *io = ioapic_of(dev);

	pthread_mutex_lock(&io->lock);
	if (offset == IOREGSEL)
		io->select = (uint8_t)value;
	else if (offset == IOWIN && len >= 4)
		window_write(io, (uint32_t)value);
	pthread_mutex_unlock(&io->lock);
}

static void ioapic_destroy(struct device *dev)
{
	struct ioapic *io = ioapic_of(dev);

	pthread_mutex_destroy(&io->lock);
	free(io);
}

/*
 * Routes are the host's, and told anew: of pins that may deliver, and of those whose
 * interrupt is in service, the end of which has to be heard.
 */
static void route_again(struct ioapic *io, unsigned pin_nr)
{
	const struct pin *pin = &io->pins[pin_nr];
	struct route route = pin_route(pin);

	if (route.masked && !(pin->redir & REDIR_REMOTE_IRR))
		route.addr = route.data = 0;
	io->dev.host->route_pin(io->dev.host->ctx, pin_nr, route.addr, route.data, route.masked);
}

/* Remote IRR is a level's alone, as after pin_rewrite(). */
static bool pin_sound(const struct pin *pin)
{
	return !(pin->redir & ~(REDIR_WRITABLE | REDIR_REMOTE_IRR)) &&
	       (pin_is_level(pin) || !(pin->redir & REDIR_REMOTE_IRR));
}

static bool ioapic_state(struct device *dev, struct state *s)
{
	struct ioapic *io = ioapic_of(dev);

	pthread_mutex_lock(&io->lock);
	state_u8(s, &io->select);
	state_u32(s, &io->id);
	state_check(s, !(io->id & ~ID_MASK), "its ID has bits that are not there");
	state_fixed(s, FOAL_IOAPIC_PINS, "the number of pins");
	for (unsigned i = 0; i < FOAL_IOAPIC_PINS; i++) {
		state_u64(s, &io->pins[i].redir);
		state_bool(s, &io->pins[i].asserted);
		state_check(s, pin_sound(&io->pins[i]), "a redirection entry that cannot be");
	}
	for (unsigned i = 0; s->loading && state_ok(s) && i < FOAL_IOAPIC_PINS; i++)
		route_again(io, i);
	pthread_mutex_unlock(&io->lock);
	return state_ok(s);
}

const struct device_ops ioapic_device = {
    .kind = "ioapic",
    .read = ioapic_read,
    .write = ioapic_write,
    .destroy = ioapic_destroy,
    .state = ioapic_state,
    .state_version = 1,
};

int ioapic_create(const struct device_host *host, struct device **out)
{
	struct ioapic *io = calloc(1, sizeof(*io));

	if (!io)
		return -ENOMEM;
	device_init(&io->dev, &ioapic_device, host);
	pthread_mutex_init(&io->lock, NULL);
	for (unsigned i = 0; i < FOAL_IOAPIC_PINS; i++)
		io->pins[i].redir = REDIR_MASKED;
	*out = &io->dev;
	return 0;
}
