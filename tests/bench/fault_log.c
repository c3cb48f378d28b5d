/*
 * make bench: what a record of the fault log costs who writes it, and how many are lost to who
 * reads every 10 ms, as foal trace does, while 200,000 a second come into one ring.
 *
 *   fault_log OUT.json
 */
#include <poll.h>
#include <pthread.h>

#include "ept/fault_log.h"
#include "tests/bench/series.h"

#define ROUNDS	64
#define THREADS 4
#define RATE	200000U /* records a second */
#define SECONDS 10U
#define LOOK_MS 10

static const struct ept_record record = {.at = 1, .done_ns = 1};

/* One round of a ring: ns a record. */
static double round_of(struct ept_fault_log *log)
{
	uint64_t before = now_ns();

	for (unsigned i = 0; i < EPT_LOG_SLOTS; i++)
		ept_fault_log_put(log, &record);
	return (double)(now_ns() - before) / EPT_LOG_SLOTS;
}

static void open_log(struct ept_fault_log *log)
{
	if (ept_fault_log_open(log, 0))
		die("no fault log: memfd_create failed");
}

/* Pages of the log come with the first round: a new log each time. */
static void first_rounds(struct series *out)
{
	ept_fault_log_choose(0);
	for (int i = 0; i < ROUNDS; i++) {
		struct ept_fault_log log;

		open_log(&log);
		series_add(out, round_of(&log));
		ept_fault_log_close(&log);
	}
}

static void later_rounds(struct ept_fault_log *log, struct series *out)
{
	round_of(log);
	for (int i = 0; i < ROUNDS; i++)
		series_add(out, round_of(log));
}

struct writer {
	pthread_t thread;
	struct ept_fault_log *log;
	struct series series;
	bool ended; /* atomic */
};

/* Each thread in the ring that it is given: four of them have one each. */
static void *write_rounds(void *arg)
{
	struct writer *w = arg;

	later_rounds(w->log, &w->series);
	return NULL;
}

static void four_threads(struct ept_fault_log *log, struct series *out)
{
	static struct writer writers[THREADS];

	for (int i = 0; i < THREADS; i++) {
		writers[i].log = log;
		if (pthread_create(&writers[i].thread, NULL, write_rounds, &writers[i]))
			die("no thread can be made");
	}
	for (int i = 0; i < THREADS; i++) {
		pthread_join(writers[i].thread, NULL);
		for (unsigned k = 0; k < writers[i].series.count; k += THREADS)
			series_add(out, writers[i].series.value[k]);
	}
}

/* A second's records, each when its time has come; how far it was behind when that was over, ms. */
static double second_of(struct ept_fault_log *log)
{
	uint64_t begin = now_ns();

	for (uint64_t done = 0; done < RATE;) {
		uint64_t due = (now_ns() - begin) * RATE / 1000000000U;

		for (; done < due && done < RATE; done++)
			ept_fault_log_put(log, &record);
	}
	return (double)(now_ns() - begin) / 1e6 - 1000;
}

static void *write_paced(void *arg)
{
	struct writer *w = arg;

	ept_fault_log_choose(0);
	for (unsigned i = 0; i < SECONDS; i++)
		series_add(&w->series, second_of(w->log));
	__atomic_store_n(&w->ended, true, __ATOMIC_RELEASE);
	return NULL;
}

/* How far the writer was behind at the end of each second, and what was lost in all. */
static void paced(struct series *behind, struct series *lost)
{
	struct ept_fault_log log;
	struct ept_records *records;
	struct ept_record read;
	uint64_t came = 0;
	bool ended = false;

	open_log(&log);
	struct writer w = {.log = &log};
	if (ept_records_open(log.fd, false, &records) ||
	    pthread_create(&w.thread, NULL, write_paced, &w))
		die("the log cannot be read, or no thread can be made");
	while (!ended) {
		poll(NULL, 0, LOOK_MS);
		ended = __atomic_load_n(&w.ended, __ATOMIC_ACQUIRE);
		while (ept_records_next(records, &read) == 1)
			came++;
	}
	pthread_join(w.thread, NULL);
	if (came + ept_records_lost(records) != RATE * SECONDS)
		die("records that neither came nor were lost");
	*behind = w.series;
	series_add(lost, (double)ept_records_lost(records));
	ept_records_close(records);
	ept_fault_log_close(&log);
}

int main(int argc, char **argv)
{
	struct series first = {0}, later = {0}, four = {0}, behind = {0}, lost = {0};
	json_t *rows = json_array();
	struct ept_fault_log log;

	if (argc != 2)
		die("usage: fault_log OUT.json");
	first_rounds(&first);
	open_log(&log);
	later_rounds(&log, &later);
	four_threads(&log, &four);
	ept_fault_log_close(&log);
	series_row(rows, "fault_log.record", "ns", &later, NULL, "ours <= 150");
	series_row(rows, "fault_log.record.first_round", "ns", &first, NULL, "none");
	series_row(rows, "fault_log.record.four_threads", "ns", &four, NULL, "none");
	paced(&behind, &lost);
	series_row(rows, "fault_log.paced.lost", "records", &lost, NULL, "ours <= 0");
	series_row(rows, "fault_log.paced.behind", "ms", &behind, NULL, "none");
	series_write(rows, argv[1]);
	return 0;
}
