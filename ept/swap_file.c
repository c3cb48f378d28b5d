#include "ept/swap_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A place: 34 bits of 64-byte steps, and the image's size in such steps above them. */
#define STEP_BITS 34
/* After so many blocks a shorter run will do. */
#define LOOK	  65536
#define MAX_BYTES ((uint64_t)EPT_IMAGE_ALIGN << STEP_BITS)

int ept_swap_open(struct ept_swap *swap, const struct ept_swap_file *file)
{
	swap->blocks = file->size / EPT_SWAP_BLOCK;
	if (!swap->blocks || file->size > MAX_BYTES)
		return -EINVAL;
	pthread_mutex_init(&swap->lock, NULL);
	swap->fd = fcntl(file->fd, F_DUPFD_CLOEXEC, 0);
	if (swap->fd < 0)
		return -errno;
	swap->name = strdup(file->name);
	swap->live = calloc(swap->blocks, 1);
	return swap->name && swap->live ? 0 : -ENOMEM;
}

static void free_pins(struct ept_swap_pin *pin)
{
	while (pin) {
		struct ept_swap_pin *next = pin->next;

		free(pin);
		pin = next;
	}
}

void ept_swap_close(struct ept_swap *swap)
{
	if (swap->fd >= 0) {
		close(swap->fd);
		pthread_mutex_destroy(&swap->lock);
	}
	free_pins(swap->pins);
	free_pins(swap->dropped);
	free(swap->live);
	free(swap->name);
}

/* As long a run as there is from @at on, up to @want. */
static unsigned free_run(const struct ept_swap *swap, uint64_t at, unsigned want)
{
	unsigned n = 0;

	while (n < want && at + n < swap->blocks && !swap->live[at + n])
		n++;
	return n;
}

/* While it is being filled each block counts one image more. */
static void take(struct ept_swap *swap, uint64_t first, unsigned blocks)
{
	for (unsigned i = 0; i < blocks; i++)
		swap->live[first + i] = 1;
	__atomic_fetch_add(&swap->used, blocks, __ATOMIC_RELAXED);
}

/* The file grows only while at least half of what it has is needed. */
static uint64_t begin_at(const struct ept_swap *swap)
{
	uint64_t used = __atomic_load_n(&swap->used, __ATOMIC_RELAXED);

	return swap->hand >= swap->top && used * 2 < swap->top ? 0 : swap->hand;
}

uint64_t ept_swap_alloc(struct ept_swap *swap, unsigned blocks, unsigned *got)
{
	uint64_t best = 0, at;
	unsigned length = 0;

	pthread_mutex_lock(&swap->lock);
	at = begin_at(swap);
	for (uint64_t seen = 0;
	     seen < swap->blocks && length < blocks && !(seen > LOOK && length >= blocks / 4);) {
		unsigned run = free_run(swap, at, blocks);

		if (run > length) {
			length = run;
			best = at;
		}
		seen += run + 1;
		at = at + run + 1 < swap->blocks ? at + run + 1 : 0;
	}
	take(swap, best, length);
	if (best + length > swap->top)
		swap->top = best + length;
	swap->hand = best + length < swap->blocks ? best + length : 0;
	pthread_mutex_unlock(&swap->lock);
	*got = length;
	return best;
}

uint64_t ept_swap_place(uint64_t first, size_t offset, size_t size)
{
	uint64_t step = (first * EPT_SWAP_BLOCK + offset) / EPT_IMAGE_ALIGN;
	uint64_t steps = (size + EPT_IMAGE_ALIGN - 1) / EPT_IMAGE_ALIGN;

	return step | steps << STEP_BITS;
}

static uint64_t place_start(uint64_t place)
{
	return (place & ((1UL << STEP_BITS) - 1)) * EPT_IMAGE_ALIGN;
}

static size_t place_size(uint64_t place)
{
	return (place >> STEP_BITS) * EPT_IMAGE_ALIGN;
}

/* The lock is held. */
static void add_live(struct ept_swap *swap, uint64_t first, uint64_t last, int n)
{
	for (uint64_t block = first; block <= last; block++) {
		swap->live[block] = (uint8_t)(swap->live[block] + n);
		if (!swap->live[block])
			__atomic_fetch_sub(&swap->used, 1, __ATOMIC_RELAXED);
	}
}

static void change(struct ept_swap *swap, uint64_t place, int n)
{
	uint64_t start = place_start(place), end = start + place_size(place);

	pthread_mutex_lock(&swap->lock);
	add_live(swap, start / EPT_SWAP_BLOCK, (end - 1) / EPT_SWAP_BLOCK, n);
	pthread_mutex_unlock(&swap->lock);
	__atomic_fetch_add(&swap->pages, n, __ATOMIC_RELAXED);
}

void ept_swap_hold(struct ept_swap *swap, uint64_t place)
{
	change(swap, place, 1);
}

void ept_swap_release(struct ept_swap *swap, uint64_t place)
{
	change(swap, place, -1);
}

void ept_swap_seal(struct ept_swap *swap, uint64_t first, unsigned blocks)
{
	if (!blocks)
		return;
	pthread_mutex_lock(&swap->lock);
	add_live(swap, first, first + blocks - 1, -1);
	pthread_mutex_unlock(&swap->lock);
}

static int write_all(int fd, const char *buf, size_t len, uint64_t at)
{
	while (len) {
		ssize_t n = pwrite(fd, buf, len, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -ENOSPC;
		buf += n;
		at += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

int ept_swap_write(struct ept_swap *swap, uint64_t first, const void *run, size_t len)
{
	int err = write_all(swap->fd, run, len, first * EPT_SWAP_BLOCK);

	if (err)
		__atomic_store_n(&swap->error, err, __ATOMIC_RELAXED);
	return err;
}

static int read_all(int fd, char *buf, size_t len, uint64_t at)
{
	while (len) {
		ssize_t n = pread(fd, buf, len, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO; /* cut short */
		buf += n;
		at += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

static uint64_t first_byte(uint64_t place)
{
	return place_start(place) & ~(uint64_t)(EPT_SWAP_BLOCK - 1);
}

/* Of the last block that the image touches. */
static uint64_t last_byte(uint64_t place)
{
	uint64_t end = place_start(place) + place_size(place);

	return (end + EPT_SWAP_BLOCK - 1) & ~(uint64_t)(EPT_SWAP_BLOCK - 1);
}

bool ept_swap_near(uint64_t first, uint64_t place)
{
	return place_start(place) >= place_start(first) &&
	       last_byte(place) - first_byte(first) <= EPT_SWAP_READ;
}

void ept_swap_piece_begin(struct ept_swap_piece *piece, char *buf, uint64_t place)
{
	*piece =
	    (struct ept_swap_piece){.buf = buf, .from = first_byte(place), .to = last_byte(place)};
}

void ept_swap_piece_add(struct ept_swap_piece *piece, uint64_t place)
{
	piece->to = last_byte(place) > piece->to ? last_byte(place) : piece->to;
}

int ept_swap_piece_read(const struct ept_swap *swap, const struct ept_swap_piece *piece,
			uint64_t *bytes)
{
	size_t len = piece->to - piece->from;
	int err = len <= EPT_SWAP_READ ? read_all(swap->fd, piece->buf, len, piece->from) : -EIO;

	*bytes += err ? 0 : len;
	return err;
}

int ept_swap_piece_page(const struct ept_swap_piece *piece, uint64_t place, gpa_t gpa, char *page)
{
	const char *image = piece->buf + (place_start(place) - piece->from);

	return ept_image_page((const struct ept_image *)(const void *)image, place_size(place), gpa,
			      page);
}

/* --- around a fork ------------------------------------------------------------------ */

int ept_swap_pin(struct ept_swap *swap, struct ept_swap_pin **out)
{
	struct ept_swap_pin *pin =
	    calloc(1, sizeof(*pin) + (swap->blocks + 63) / 64 * sizeof(*pin->blocks));
	int err = pin ? 0 : -ENOMEM;

	pthread_mutex_lock(&swap->lock);
	if (!err && swap->nr_pins == EPT_SWAP_PINS)
		err = -EBUSY;
	for (uint64_t block = 0; block < swap->top && !err; block++)
		if (swap->live[block]) {
			pin->blocks[block / 64] |= 1UL << (block % 64);
			swap->live[block]++;
		}
	if (!err) {
		pin->next = swap->pins;
		swap->pins = pin;
		swap->nr_pins++;
	}
	pthread_mutex_unlock(&swap->lock);
	if (err)
		free(pin);
	*out = err ? NULL : pin;
	return err;
}

/* The blocks of @pin count as they did without it. The lock is held, or nobody else is there. */
static void let_go(struct ept_swap *swap, const struct ept_swap_pin *pin)
{
	for (uint64_t block = 0; block < swap->top; block++)
		if (pin->blocks[block / 64] >> (block % 64) & 1)
			add_live(swap, block, block, -1);
}

void ept_swap_unpin(struct ept_swap *swap, struct ept_swap_pin *pin)
{
	struct ept_swap_pin **at = &swap->pins;

	if (!pin)
		return;
	pthread_mutex_lock(&swap->lock);
	while (*at && *at != pin)
		at = &(*at)->next;
	if (*at) {
		*at = pin->next;
		swap->nr_pins--;
		let_go(swap, pin);
		free(pin);
	}
	pthread_mutex_unlock(&swap->lock);
}

/* They are freed with the swap file: that is not async-signal-safe. */
static void drop_pins(struct ept_swap *swap)
{
	while (swap->pins) {
		struct ept_swap_pin *pin = swap->pins;

		let_go(swap, pin);
		swap->pins = pin->next;
		pin->next = swap->dropped;
		swap->dropped = pin;
	}
	swap->nr_pins = 0;
}

int ept_swap_adopt(struct ept_swap *swap, int fd)
{
	char buf[EPT_SWAP_RUN * EPT_SWAP_BLOCK] __attribute__((aligned(EPT_SWAP_BLOCK)));
	int own = fcntl(fd, F_DUPFD_CLOEXEC, 0), err = own < 0 ? -errno : 0;

	drop_pins(swap);
	for (uint64_t first = 0, n; first < swap->top && !err; first += n) {
		uint64_t at = first * EPT_SWAP_BLOCK;

		for (n = 0; n < EPT_SWAP_RUN && first + n < swap->top; n++)
			if (!swap->live[first + n])
				break;
		if (!n) {
			n = 1;
			continue;
		}
		err = read_all(swap->fd, buf, n * EPT_SWAP_BLOCK, at);
		if (!err)
			err = write_all(own, buf, n * EPT_SWAP_BLOCK, at);
	}
	close(swap->fd); /* the parent has it still */
	swap->fd = own;
	return err;
}
