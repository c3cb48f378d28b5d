/*
 * make bench: what a record of the fault log costs who writes it.
 *
 *   fault_log OUT.json
 */
#include <pthread.h>

#include "ept/fault_log.h"
#include "tests/bench/series.h"

#define ROUNDS	64
#define THREADS 4

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

int main(int argc, char **argv)
{
	struct series first = {0}, later = {0}, four = {0};
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
	series_write(rows, argv[1]);
	return 0;
}
