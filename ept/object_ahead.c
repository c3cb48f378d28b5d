#include "ept/object.h"
#include "ept/reader.h"

#include <errno.h>

static void add(uint64_t *counter, uint64_t n)
{
	__atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}

/* A run of at most a buffer of pages, from *@page on, that nobody has or reads. */
static bool next_run(const struct ept_object *obj, uint64_t *page, uint64_t end,
		     struct ept_object_read *run)
{
	while (*page < end && !ept_object_wanted(obj, *page))
		++*page;
	run->first = *page;
	while (*page < end && ept_object_wanted(obj, *page)) {
		++*page;
		if (*page % EPT_READER_PAGES == 0) /* so that reads of a file line up */
			break;
	}
	run->end = *page;
	return run->first < run->end;
}

void ept_object_read_ahead(struct ept_object *obj, struct ept_reader *reader, uint64_t first,
			   uint64_t end)
{
	struct ept_ahead *begun = NULL, **tail = &begun;
	struct ept_object_read run = {0};
	unsigned reads = 0;

	pthread_mutex_lock(&obj->lock);
	while (next_run(obj, &first, end, &run)) {
		struct ept_ahead *ahead = ept_reader_take(reader, obj);

		if (!ahead)
			break;
		ahead->read = run;
		ahead->read.reader = reader;
		ept_object_read_begins(obj, &ahead->read);
		add(&obj->nr_coming, run.end - run.first);
		*tail = ahead;
		tail = &ahead->next;
		reads++;
	}
	pthread_mutex_unlock(&obj->lock);
	if (!begun)
		return;
	add(&obj->ahead_stats.windows, 1);
	add(&obj->ahead_stats.reads, reads);
	ept_reader_queue(reader, begun);
}

static void no_more_coming(struct ept_object *obj, const struct ept_object_read *read)
{
	__atomic_fetch_sub(&obj->nr_coming, read->end - read->first, __ATOMIC_RELAXED);
}

bool ept_object_ahead_undone(struct ept_object *obj, struct ept_object_read *read)
{
	if (!read->reader || !ept_reader_drop(read->reader, read))
		return false;
	ept_object_read_forget(obj, read);
	no_more_coming(obj, read);
	/* Its pages are the fault's now, and whoever else waits looks again. */
	pthread_cond_broadcast(&obj->read_done);
	ept_reader_put(read->reader, read);
	return true;
}

/* Before they are in the cache, so that whoever takes them finds them noted. */
static uint64_t note_ahead(struct ept_object *obj, uint64_t first, uint64_t end)
{
	for (uint64_t page = first; page < end; page = ept_word_end(page))
		__atomic_fetch_or(&obj->ahead[page / 64], ept_word_bits(page, end),
				  __ATOMIC_RELAXED);
	return end - first;
}

void ept_object_ahead_ended(struct ept_object *obj, struct ept_object_read *read, size_t done)
{
	uint64_t end = ept_object_read_whole(obj, read, done);

	pthread_mutex_lock(&obj->lock);
	add(&obj->ahead_stats.bytes_read, done);
	add(&obj->ahead_stats.pages, note_ahead(obj, read->first, end));
	add(&obj->ahead_stats.failed, end < read->end);
	no_more_coming(obj, read);
	ept_object_read_ended(obj, read, done);
	pthread_mutex_unlock(&obj->lock);
}

void ept_object_taken(struct ept_object *obj, uint64_t first, uint64_t end)
{
	uint64_t used = 0;

	for (uint64_t page = first; page < end; page = ept_word_end(page)) {
		uint64_t *word = &obj->ahead[page / 64], bits = ept_word_bits(page, end);

		if (__atomic_load_n(word, __ATOMIC_RELAXED) & bits)
			used += (uint64_t)__builtin_popcountl(
			    __atomic_fetch_and(word, ~bits, __ATOMIC_RELAXED) & bits);
	}
	if (used)
		add(&obj->ahead_stats.used, used);
}
