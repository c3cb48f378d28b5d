/*
 * QEMU's firmware configuration (QEMU docs/specs/fw_cfg): how firmware asks the
 * machine what it is made of, and for the kernel that it is to start.
 *
 *   offset 0    16 bits, written: select an item; its next byte is the first
 *   offset 1    8 bits, read: the next byte of the item, 0 behind its end
 *   offset 4    32 bits, big endian: a written high half of a request's address;
 *   offset 8    a written low half starts that request. Read: a signature
 *
 * A request in guest memory (struct request) names item, length and address and
 * is done before the write returns. Items are fixed before the vCPUs run.
 */
#include "devices/fw_cfg.h"

#include <endian.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices/file_io.h"
#include "devices/fw_cfg_items.h"
#include "devices/state.h"

/* Keys of the interface itself; fw_cfg.h has the others. */
#define KEY_SIGNATURE 0x00
#define KEY_ID	      0x01

#define ID_PORTS      1u /* the selector and data register */
#define ID_DMA	      2u
#define DMA_SIGNATURE 0x51454d5520434647ULL /* "QEMU CFG" */

enum { REG_SELECTOR = 0, REG_DATA = 1, REG_DMA_HIGH = 4, REG_DMA_LOW = 8 };

#define CONTROL_ERROR  0x01u
#define CONTROL_READ   0x02u
#define CONTROL_SKIP   0x04u
#define CONTROL_SELECT 0x08u
#define CONTROL_WRITE  0x10u
#define CONTROL_KEY    16

/*
 * How much is moved between two looks at whether the run ends; of any alignment
 * and in any host mapping, it never has more runs than that.
 */
#define MAX_RUNS       64
#define PIECE	       ((uint32_t)((MAX_RUNS - 1) * EPT_PAGE_SIZE))

/* All fields big endian. */
struct request {
	uint32_t control, length;
	uint64_t gpa;
};

/* Where the next read starts. */
struct position {
	struct fw_cfg_item *item; /* NULL: there is none of that key */
	uint32_t at;
};

struct fw_cfg {
	struct device dev;
	struct fw_cfg_items items;
	atomic_bool stopping;
	pthread_mutex_t lock; /* what follows */
	struct position next;
	uint32_t dma_high;
};

static struct fw_cfg *fw_cfg_of(struct device *dev)
{
	return device_of(dev, struct fw_cfg, dev);
}

struct fw_cfg_items *fw_cfg_items_of(struct device *dev)
{
	return &fw_cfg_of(dev)->items;
}

/* --- reading ------------------------------------------------------------------------ */

static uint32_t left(const struct position *next)
{
	return next->item ? next->item->len - next->at : 0;
}

static void advance(struct position *next, uint32_t len)
{
	uint32_t n = left(next) < len ? left(next) : len;

	next->at += n;
	if (n == 0)
		return;
	uint32_t reached = atomic_load_explicit(&next->item->reached, memory_order_relaxed);
	while (reached < next->at &&
	       !atomic_compare_exchange_weak_explicit(&next->item->reached, &reached, next->at,
						      memory_order_relaxed, memory_order_relaxed))
		;
}

/* Fill iovecs of @len bytes in all from memory. */
static void scatter(const struct iovec *iov, size_t nr, const uint8_t *data, uint32_t len)
{
	for (size_t i = 0; i < nr && len; i++) {
		uint32_t n = iov[i].iov_len < len ? (uint32_t)iov[i].iov_len : len;

		if (data)
			memcpy(iov[i].iov_base, data, n);
		else
			memset(iov[i].iov_base, 0, n);
		data = data ? data + n : NULL;
		len -= n;
	}
}

/* The next @len bytes, at most PIECE and all of the item or all behind it, to @gpa. */
static int read_piece(struct fw_cfg *cfg, const struct position *next, gpa_t gpa, uint32_t len)
{
	struct ept_space *memory = cfg->dev.host->memory;
	const struct fw_cfg_item *item = left(next) ? next->item : NULL;
	struct iovec iov[MAX_RUNS];
	ssize_t nr = ept_map(memory, gpa, len, EPT_WRITE, EPT_ORIGIN_DEVICE, iov, MAX_RUNS);

	if (nr < 0)
		return (int)nr;
	if (item && !item->data) {
		struct iov_cursor cursor = {iov, (size_t)nr};
		return file_transfer(item->fd, FROM_FILE, &cursor, len, item->offset + next->at);
	}
	scatter(iov, (size_t)nr, item ? item->data + next->at : NULL, len);
	return 0;
}

/* Behind its end an item reads as zeros. */
static int read_to_guest(struct fw_cfg *cfg, struct position *next, uint64_t gpa, uint32_t len)
{
	while (len) {
		uint32_t n = len < PIECE ? len : PIECE;

		if (left(next) && left(next) < n)
			n = left(next);
		if (gpa + n < gpa || atomic_load(&cfg->stopping))
			return -EFAULT;
		int r = read_piece(cfg, next, GPA(gpa), n);
		if (r)
			return r;
		advance(next, n);
		gpa += n;
		len -= n;
	}
	return 0;
}

static int serve(struct fw_cfg *cfg, struct position *next, const struct request *request)
{
	uint32_t control = be32toh(request->control), length = be32toh(request->length);

	if (control & CONTROL_SELECT)
		*next = (struct position){
		    fw_cfg_find(&cfg->items, (uint16_t)(control >> CONTROL_KEY)), 0};
	if (control & CONTROL_READ)
		return read_to_guest(cfg, next, be64toh(request->gpa), length);
	if (control & CONTROL_WRITE)
		return -EROFS;
	if (control & CONTROL_SKIP)
		advance(next, length);
	return 0;
}

/*
 * No lock is held over guest memory: of vCPUs that use this at once, which they
 * are not meant to, one has the last word on where the next read starts.
 */
static void start_request(struct fw_cfg *cfg, uint64_t gpa)
{
	struct ept_space *memory = cfg->dev.host->memory;
	struct request request;
	struct position next;

	if (ept_read(memory, GPA(gpa), &request, sizeof(request), EPT_ORIGIN_DEVICE))
		return; /* nowhere to say so */
	pthread_mutex_lock(&cfg->lock);
	next = cfg->next;
	pthread_mutex_unlock(&cfg->lock);
	request.control = serve(cfg, &next, &request) ? htobe32(CONTROL_ERROR) : 0;
	pthread_mutex_lock(&cfg->lock);
	cfg->next = next;
	pthread_mutex_unlock(&cfg->lock);
	ept_write(memory, GPA(gpa), &request.control, sizeof(request.control), EPT_ORIGIN_DEVICE);
}

/* --- registers ------------------------------------------------------------------------ */

static uint8_t next_byte(struct fw_cfg *cfg)
{
	struct position *next = &cfg->next;
	uint8_t byte = 0;

	if (left(next) && next->item->data)
		byte = next->item->data[next->at];
	else if (left(next) &&
		 pread(next->item->fd, &byte, 1, (off_t)(next->item->offset + next->at)) != 1)
		byte = 0;
	advance(next, 1);
	return byte;
}

static uint64_t fw_cfg_read(struct device *dev, uint64_t offset, unsigned len)
{
	struct fw_cfg *cfg = fw_cfg_of(dev);
	uint64_t value = 0;

	if (len == 1 && offset == REG_DATA) {
		pthread_mutex_lock(&cfg->lock);
		value = next_byte(cfg);
		pthread_mutex_unlock(&cfg->lock);
	} else if (len == 4 && offset == REG_DMA_HIGH) {
		value = htobe32((uint32_t)(DMA_SIGNATURE >> 32));
	} else if (len == 4 && offset == REG_DMA_LOW) {
		value = htobe32((uint32_t)DMA_SIGNATURE);
	}
	return value;
}

static void fw_cfg_write(struct device *dev, uint64_t offset, unsigned len, uint64_t value)
{
	struct fw_cfg *cfg = fw_cfg_of(dev);
	uint64_t gpa = 0;
	bool start = false;

	pthread_mutex_lock(&cfg->lock);
	if (len == 2 && offset == REG_SELECTOR) {
		cfg->next = (struct position){fw_cfg_find(&cfg->items, (uint16_t)value), 0};
	} else if (len == 4 && offset == REG_DMA_HIGH) {
		cfg->dma_high = be32toh((uint32_t)value);
	} else if (len == 4 && offset == REG_DMA_LOW) {
		gpa = (uint64_t)cfg->dma_high << 32 | be32toh((uint32_t)value);
		cfg->dma_high = 0;
		start = true;
	}
	pthread_mutex_unlock(&cfg->lock);
	if (start)
		start_request(cfg, gpa);
}

static void fw_cfg_stop(struct device *dev)
{
	atomic_store(&fw_cfg_of(dev)->stopping, true);
}

static void fw_cfg_destroy(struct device *dev)
{
	struct fw_cfg *cfg = fw_cfg_of(dev);

	fw_cfg_items_free(&cfg->items);
	pthread_mutex_destroy(&cfg->lock);
	free(cfg);
}

/* The items are made anew with the machine; where the next read starts is kept. */
static bool fw_cfg_state(struct device *dev, struct state *s)
{
	struct fw_cfg *cfg = fw_cfg_of(dev);
	struct position *next = &cfg->next;

	pthread_mutex_lock(&cfg->lock);
	bool selected = next->item;
	uint16_t key = selected ? next->item->key : 0;

	state_bool(s, &selected);
	state_u16(s, &key);
	if (s->loading) {
		next->item = selected ? fw_cfg_find(&cfg->items, key) : NULL;
		state_check(s, !selected || next->item, "the item selected is not here");
	}
	state_u32(s, &next->at);
	if (s->loading && !(next->item ? next->at <= next->item->len : next->at == 0)) {
		next->at = 0;
		state_refuse(s, "the next byte lies behind its item's end");
	}
	state_u32(s, &cfg->dma_high);
	pthread_mutex_unlock(&cfg->lock);
	return state_ok(s);
}

const struct device_ops fw_cfg_device = {
    .kind = "fw-cfg",
    .read = fw_cfg_read,
    .write = fw_cfg_write,
    .stop = fw_cfg_stop,
    .destroy = fw_cfg_destroy,
    .state = fw_cfg_state,
    .state_version = 1,
};

int fw_cfg_create(const struct device_host *host, struct device **out)
{
	struct fw_cfg *cfg = calloc(1, sizeof(*cfg));

	if (!cfg)
		return -ENOMEM;
	device_init(&cfg->dev, &fw_cfg_device, host);
	pthread_mutex_init(&cfg->lock, NULL);
	int r = fw_cfg_items_init(&cfg->items);
	if (r == 0)
		r = fw_cfg_add(&cfg->dev, KEY_SIGNATURE, "QEMU", 4);
	if (r == 0)
		r = fw_cfg_add_number(&cfg->dev, KEY_ID, ID_PORTS | ID_DMA, 4);
	if (r)
		fw_cfg_destroy(&cfg->dev);
	else
		*out = &cfg->dev;
	return r;
}
