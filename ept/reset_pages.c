/*
 * Which pages were written since a reset point: as KVM's log says, and as the monitor's own
 * threads have noted.
 */
#include "ept/reset_space.h"

#include <string.h>

/* Few chunks of the bitmaps have anything in them, mostly: the others are not looked at. */
#define CHUNK_WORDS 64UL
#define CHUNK_PAGES (CHUNK_WORDS * 64)

uint64_t ept_reset_words(const struct ept_reset_slot *s)
{
	return (s->pages + 63) / 64;
}

static uint64_t chunks_of(const struct ept_reset_slot *s)
{
	return (ept_reset_words(s) + CHUNK_WORDS - 1) / CHUNK_WORDS;
}

size_t ept_reset_chunk_bytes(const struct ept_reset_slot *s)
{
	return (chunks_of(s) + 63) / 64 * sizeof(*s->chunks);
}

/* --- what was written, by whom KVM does not see -------------------------------------------- */

static void set_bits(uint64_t *bits, uint64_t first, uint64_t end)
{
	for (uint64_t page = first; page < end; page = ept_word_end(page)) {
		uint64_t mask = ept_word_bits(page, end);

		if ((__atomic_load_n(&bits[page / 64], __ATOMIC_RELAXED) & mask) != mask)
			__atomic_fetch_or(&bits[page / 64], mask, __ATOMIC_RELAXED);
	}
}

static void note(const struct ept_reset_slot *s, uint64_t first, uint64_t end, bool gone)
{
	set_bits(gone ? s->gone : s->noted, first, end);
	set_bits(s->chunks, first / CHUNK_PAGES, (end + CHUNK_PAGES - 1) / CHUNK_PAGES);
}

void ept_reset_note(struct ept_space *space, uint64_t gpa, uint64_t len, bool gone)
{
	const struct ept_reset *r = __atomic_load_n(&space->reset, __ATOMIC_ACQUIRE);

	for (size_t i = 0; r && i < r->nr; i++) {
		const struct ept_reset_slot *s = &r->slots[i];
		uint64_t at = gpa - s->slot->gpa.v;

		if (gpa < s->slot->gpa.v || at >= s->slot->size || !s->kept)
			continue;
		note(s, at >> EPT_PAGE_SHIFT, (at + len + EPT_PAGE_SIZE - 1) >> EPT_PAGE_SHIFT,
		     gone);
	}
}

/* --- pages that were written --------------------------------------------------------------- */

static bool is_marked(const struct ept_reset_slot *s, uint64_t chunk)
{
	return __atomic_load_n(&s->chunks[chunk / 64], __ATOMIC_RELAXED) >> chunk % 64 & 1;
}

static uint64_t chunk_end(const struct ept_reset_slot *s, uint64_t chunk)
{
	uint64_t end = (chunk + 1) * CHUNK_WORDS;

	return end < ept_reset_words(s) ? end : ept_reset_words(s);
}

/* The pages of @s of which a word of the bitmaps tells. */
struct word {
	uint64_t index, wrote, any;
};

static int each_of_word(struct ept_reset *r, struct ept_reset_slot *s, const struct word *word,
			const struct ept_area **area, ept_reset_page_fn *fn, void *ctx)
{
	int err = 0;

	for (uint64_t any = word->any; any && !err; any &= any - 1) {
		unsigned bit = (unsigned)__builtin_ctzl(any);
		uint64_t page = word->index * 64 + bit, gpa = ept_reset_gpa(s, page);

		if (page >= s->pages)
			break;
		if (!*area || gpa >= (*area)->end || gpa < (*area)->start)
			*area = ept_area_find(r->space, gpa);
		if (*area)
			err = fn(r, s, *area, page, word->wrote >> bit & 1, ctx);
	}
	return err;
}

static int each_page(struct ept_reset *r, struct ept_reset_slot *s, ept_reset_page_fn *fn,
		     void *ctx)
{
	const struct ept_area *area = NULL;
	int err = 0;

	for (uint64_t chunk = 0; s->kept && chunk < chunks_of(s); chunk++) {
		if (!is_marked(s, chunk))
			continue;
		for (uint64_t w = chunk * CHUNK_WORDS; w < chunk_end(s, chunk) && !err; w++) {
			struct word word = {.index = w};

			word.wrote = __atomic_load_n(&s->noted[w], __ATOMIC_RELAXED);
			word.any = word.wrote | __atomic_load_n(&s->gone[w], __ATOMIC_RELAXED);
			err = each_of_word(r, s, &word, &area, fn, ctx);
		}
	}
	return err;
}

int ept_reset_each(struct ept_reset *r, ept_reset_page_fn *fn, void *ctx)
{
	int err = 0;

	for (size_t i = 0; i < r->nr && !err; i++)
		err = each_page(r, &r->slots[i], fn, ctx);
	return err;
}

void ept_reset_note_log(struct ept_reset *r, ept_written written)
{
	for (size_t i = 0; i < r->nr; i++) {
		struct ept_reset_slot *s = &r->slots[i];
		const uint64_t *log = s->kept ? written[i] : NULL;

		for (uint64_t w = 0; log && w < ept_reset_words(s); w++) {
			if (!log[w])
				continue;
			s->noted[w] |= log[w];
			s->chunks[w / CHUNK_WORDS / 64] |= 1UL << w / CHUNK_WORDS % 64;
		}
	}
}

void ept_reset_forget_notes(struct ept_reset *r)
{
	for (size_t i = 0; i < r->nr; i++) {
		struct ept_reset_slot *s = &r->slots[i];

		for (uint64_t chunk = 0; s->kept && chunk < chunks_of(s); chunk++) {
			uint64_t first = chunk * CHUNK_WORDS;
			size_t bytes = (chunk_end(s, chunk) - first) * sizeof(*s->noted);

			if (!is_marked(s, chunk))
				continue;
			memset(s->noted + first, 0, bytes);
			memset(s->gone + first, 0, bytes);
		}
		if (s->kept)
			memset(s->chunks, 0, ept_reset_chunk_bytes(s));
	}
}
