/* What faults add up to, those recorded and those of a replay. */
#include <errno.h>
#include <stdlib.h>

#include "vmm/replay.h"

int replay_count_init(struct replay_count *count, const struct replay_trace *trace)
{
	*count = (struct replay_count){.chain = calloc(trace->chains, sizeof(*count->chain))};
	return count->chain ? 0 : -ENOMEM;
}

void replay_count_free(struct replay_count *count)
{
	free(count->chain);
	count->chain = NULL;
}

void replay_count_add(struct replay_count *count, const struct ept_record *record, int kase,
		      size_t chain)
{
	struct replay_chain *c = &count->chain[chain];
	uint32_t all = replay_handled_ns(record);
	uint32_t read = record->read_ns < all ? record->read_ns : all;

	count->faults++;
	if (kase >= 0)
		count->cases[kase]++;
	count->installed += record->installed;
	count->around += record->around;
	count->bytes_read += record->bytes_read;
	c->faults++;
	c->major += record->read_ns != 0;
	c->read_ns += read;
	c->rest_ns += all - read;
}

void replay_count_recorded(struct replay_count *count, const struct replay_trace *trace)
{
	for (size_t i = 0; i < trace->count; i++) {
		const struct ept_record *record = &trace->records[i];

		if (!replay_leaves_out(trace, record) && !replay_is_ahead(trace, record))
			replay_count_add(count, record, trace->kase[record->kase],
					 replay_chain_of(trace, record));
	}
}
