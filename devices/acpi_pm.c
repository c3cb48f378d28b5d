/*
 * The registers of a hardware-reduced ACPI platform (ACPI 6.5, 4.8.3.7 and
 * 4.8.3.6) and those of its Generic Event Device, which vmm/acpi/dsdt.asl
 * reads. At FOAL_PORT_ACPI:
 *
 *   0  32 bits  events pending; a read takes them all
 *   4   8 bits  sleep control: SLP_TYP in bits 2..4, SLP_EN in bit 5
 *   5   8 bits  sleep status: WAK_STS in bit 7, never set
 *   6   8 bits  reset
 *
 * Another width or offset reads as 0 and does nothing.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "devices/device.h"
#include "devices/state.h"
#include "guest/abi.h"

#define EVENTS	      (FOAL_PORT_ACPI_EVENTS - FOAL_PORT_ACPI)
#define SLEEP_CONTROL (FOAL_PORT_ACPI_SLEEP_CTL - FOAL_PORT_ACPI)
#define RESET	      (FOAL_PORT_ACPI_RESET - FOAL_PORT_ACPI)

#define SLP_TYP(v)    ((v) >> 2 & 7)
#define SLP_EN	      (1u << 5)

struct acpi_pm {
	struct device dev;
	pthread_mutex_t lock; /* below; held over host->set_pin */
	uint32_t events;      /* the pin is high while it is not 0 */
};

static struct acpi_pm *acpi_pm_of(struct device *dev)
{
	return device_of(dev, struct acpi_pm, dev);
}

void acpi_pm_raise(struct device *dev, uint32_t events)
{
	struct acpi_pm *pm = acpi_pm_of(dev);

	pthread_mutex_lock(&pm->lock);
	pm->events |= events;
	if (pm->events)
		dev->host->set_pin(dev->host->ctx, FOAL_PIN_ACPI, true);
	pthread_mutex_unlock(&pm->lock);
}

static uint32_t take_events(struct acpi_pm *pm)
{
	pthread_mutex_lock(&pm->lock);
	uint32_t events = pm->events;

	pm->events = 0;
	if (events)
		pm->dev.host->set_pin(pm->dev.host->ctx, FOAL_PIN_ACPI, false);
	pthread_mutex_unlock(&pm->lock);
	return events;
}

uint32_t acpi_pm_pending(struct device *acpi_pm)
{
	struct acpi_pm *pm = acpi_pm_of(acpi_pm);

	pthread_mutex_lock(&pm->lock);
	uint32_t events = pm->events;
	pthread_mutex_unlock(&pm->lock);
	return events;
}

static uint64_t acpi_pm_read(struct device *dev, uint64_t offset, unsigned len)
{
	return offset == EVENTS && len == 4 ? take_events(acpi_pm_of(dev)) : 0;
}

static void acpi_pm_write(struct device *dev, uint64_t offset, unsigned len, uint64_t value)
{
	const struct device_host *host = dev->host;

	if (len != 1)
		return;
	if (offset == SLEEP_CONTROL && (value & SLP_EN) && SLP_TYP(value) == FOAL_ACPI_S5)
		host->guest_exit(host->ctx, 0);
	else if (offset == RESET && value == FOAL_ACPI_RESET_VALUE)
		host->guest_reset(host->ctx);
}

static void acpi_pm_destroy(struct device *dev)
{
	struct acpi_pm *pm = acpi_pm_of(dev);

	pthread_mutex_destroy(&pm->lock);
	free(pm);
}

static bool acpi_pm_state(struct device *dev, struct state *s)
{
	struct acpi_pm *pm = acpi_pm_of(dev);

	pthread_mutex_lock(&pm->lock);
	state_u32(s, &pm->events);
	pthread_mutex_unlock(&pm->lock);
	return state_ok(s);
}

const struct device_ops acpi_pm_device = {
    .kind = "acpi-pm",
    .read = acpi_pm_read,
    .write = acpi_pm_write,
    .destroy = acpi_pm_destroy,
    .state = acpi_pm_state,
    .state_version = 1,
};

int acpi_pm_create(const struct device_host *host, struct device **out)
{
	struct acpi_pm *pm = calloc(1, sizeof(*pm));

	if (!pm)
		return -ENOMEM;
	device_init(&pm->dev, &acpi_pm_device, host);
	pthread_mutex_init(&pm->lock, NULL);
	*out = &pm->dev;
	return 0;
}
