#include "ept/stream.h"

void ept_streams_init(struct ept_streams *s)
{
	*s = (struct ept_streams){0};
	pthread_mutex_init(&s->lock, NULL);
}

void ept_streams_free(struct ept_streams *s)
{
	pthread_mutex_destroy(&s->lock);
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t most(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* Where the aligned window of @pages, a power of two, that holds @page ends. */
static uint64_t window_end(uint64_t page, unsigned pages)
{
	return (page & ~(uint64_t)(pages - 1)) + pages;
}

static unsigned grow(unsigned window)
{
	return window < EPT_SYNC_MAX ? window * 4 : EPT_WINDOW_MAX;
}

/* The stream that the fault goes on with, or NULL. */
static struct ept_stream *find(struct ept_streams *s, const struct ept_touch *t)
{
	for (int i = 0; i < EPT_STREAMS; i++) {
		struct ept_stream *stream = &s->stream[i];

		if (stream->seen && stream->next >= t->back && stream->next <= t->page &&
		    stream->last < t->page)
			return stream;
	}
	return NULL;
}

/* A stream that somebody follows stays, unless it was long ago. */
static bool followed(const struct ept_streams *s, const struct ept_stream *stream)
{
	return stream->proven && s->clock - stream->seen < EPT_STREAM_IDLE;
}

static struct ept_stream *replace(struct ept_streams *s)
{
	struct ept_stream *victim = &s->stream[0];

	for (int i = 1; i < EPT_STREAMS; i++) {
		struct ept_stream *stream = &s->stream[i];
		int more = followed(s, stream) - followed(s, victim);

		if (more < 0 || (!more && stream->seen < victim->seen))
			victim = stream;
	}
	return victim;
}

/* The aligned @pages around the fault, within the leaf and the area. */
static void map_around(const struct ept_touch *t, unsigned pages, struct ept_step *step)
{
	step->first = most(window_end(t->page, pages) - pages, t->lfirst);
	step->end = least(window_end(t->page, pages), t->lend);
}

static void read_alone(const struct ept_touch *t, struct ept_step *step)
{
	step->read_first = t->page;
	step->read_end = t->page + 1;
}

static void copy_alone(const struct ept_touch *t, struct ept_step *step)
{
	step->first = t->page;
	step->end = t->page + 1;
}

static void read_around(const struct ept_touch *t, struct ept_step *step)
{
	struct ept_step around;

	map_around(t, t->around, &around);
	step->read_first = around.first;
	step->read_end = around.end;
}

/* The window doubles with the faults that this leaf has seen. */
static unsigned dense_window(const struct ept_touch *t)
{
	unsigned pages = t->around;

	for (unsigned i = 0; i < t->near && pages < EPT_WINDOW_MAX; i++)
		pages *= 2;
	return pages;
}

/* The largest power of two up to @n, or 1. */
static unsigned power_of_two(uint64_t n)
{
	return n ? 1U << (63 - __builtin_clzl(n)) : 1;
}

/* Of @window, what the host's own path would read as well; 0: nothing. */
static unsigned host_window(struct ept_streams *s, const struct ept_touch *t, unsigned window)
{
	unsigned host = power_of_two(least(s->host_ahead, EPT_WINDOW_MAX));
	/* Half of a window that doubled was read with the one before. */
	unsigned more = window > host ? host : window / 2;

	if (!t->near || host < t->around || s->around + more > EPT_HOST_MISSES * s->host_ahead)
		return 0;
	s->around += more;
	return window < host ? window : host;
}

static void read_at_random(struct ept_streams *s, struct ept_stream *stream,
			   const struct ept_touch *t, struct ept_step *step)
{
	unsigned window = dense_window(t), read = host_window(s, t, window);
	struct ept_step ahead;

	step->random = true;
	map_around(t, window, step);
	if (read) {
		map_around(t, read, &ahead);
		read_around(t, step);
		step->ahead_first = ahead.first;
		step->ahead_end = ahead.end;
	} else if (s->misses < EPT_MISSES) {
		read_around(t, step);
		stream->window = t->around;
	}
	s->misses += s->misses < EPT_MISSES;
}

/* Nothing is known of what follows. A write brings one page: the next is perhaps never read. */
static void start_stream(struct ept_streams *s, struct ept_stream *stream,
			 const struct ept_touch *t, struct ept_step *step)
{
	*stream = (struct ept_stream){.start = t->page, .window = 1};
	read_alone(t, step);
	if (t->write)
		copy_alone(t, step);
	else
		read_at_random(s, stream, t, step);
}

/*
 * A writer's next pages are copied before they are written: a part of what it is
 * known to have written, so that one that stops has cost little.
 */
static void copy_ahead(const struct ept_stream *stream, const struct ept_touch *t,
		       struct ept_step *step)
{
	uint64_t copies =
	    least(power_of_two((t->page - stream->start) / EPT_COPY_SHARE), EPT_WINDOW_MAX);

	step->first = t->page;
	step->end = least(t->page + copies, t->lend);
}

static void follow_stream(struct ept_streams *s, struct ept_stream *stream,
			  const struct ept_touch *t, struct ept_step *step)
{
	unsigned window = least(grow(stream->window), EPT_WINDOW_MAX);
	uint64_t end = least(window_end(t->page, window), t->end);

	s->misses -= s->misses > 0;
	stream->window = window;
	stream->proven = true;
	step->run = t->page - stream->start;
	if (t->write) {
		copy_ahead(stream, t, step);
	} else {
		map_around(t, t->around, step);
		step->end = least(most(step->end, end), t->lend);
	}
	step->read_first = t->page;
	step->read_end = least(least(end, t->page + EPT_SYNC_MAX), t->lend);
	if (t->page >= stream->mark) {
		step->ahead_first = most(stream->ahead, step->read_end);
		step->ahead_end = least(end + window, t->end);
		stream->mark = end;
		stream->ahead = most(stream->ahead, step->ahead_end);
	}
}

/* A marker is mapped by the fault on it alone, or nobody would see it touched. */
static void stop_at_markers(const struct ept_streams *s, uint64_t page, struct ept_step *step)
{
	for (int i = 0; i < EPT_STREAMS; i++)
		if (s->stream[i].mark > page && s->stream[i].mark < step->end)
			step->end = s->stream[i].mark;
}

struct ept_step ept_streams_step(struct ept_streams *s, const struct ept_touch *t)
{
	struct ept_step step = {.stream = -1};
	struct ept_stream *stream;

	if (t->around == 1) {
		copy_alone(t, &step);
		read_alone(t, &step);
		return step;
	}
	pthread_mutex_lock(&s->lock);
	s->clock++;
	stream = find(s, t);
	if (stream) {
		follow_stream(s, stream, t, &step);
	} else {
		stream = replace(s);
		start_stream(s, stream, t, &step);
	}
	stop_at_markers(s, t->page, &step);
	stream->seen = s->clock;
	stream->last = t->page;
	stream->next = t->page + 1;
	step.stream = (int)(stream - s->stream);
	pthread_mutex_unlock(&s->lock);
	return step;
}

bool ept_streams_follows(struct ept_streams *s, const struct ept_touch *t)
{
	bool follows;

	pthread_mutex_lock(&s->lock);
	follows = t->around > 1 && find(s, t);
	pthread_mutex_unlock(&s->lock);
	return follows;
}

void ept_streams_note(struct ept_streams *s, uint64_t page)
{
	pthread_mutex_lock(&s->lock);
	*replace(s) = (struct ept_stream){
	    .start = page, .last = page, .next = page + 1, .window = 1, .seen = ++s->clock};
	pthread_mutex_unlock(&s->lock);
}

void ept_streams_moved(struct ept_streams *s, const struct ept_step *step, uint64_t page,
		       uint64_t next)
{
	struct ept_stream *stream;

	if (step->stream < 0)
		return;
	stream = &s->stream[step->stream];
	pthread_mutex_lock(&s->lock);
	if (stream->last == page)
		stream->next = next;
	pthread_mutex_unlock(&s->lock);
}
