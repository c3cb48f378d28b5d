#include "vmm/trace_kvm_file.h"

#include <stdio.h>
#include <string.h>

_Static_assert(sizeof(struct trace_kvm_record) == 48 && sizeof(struct trace_kvm_tail) == 536,
	       "docs/formats.md");

void trace_kvm_record_of(const struct kvm_fault *fault, struct trace_kvm_record *out)
{
	*out = (struct trace_kvm_record){.at = fault->at,
					 .entry = fault->entry,
					 .gpa = fault->gpa,
					 .error_code = fault->error_code,
					 .rip = fault->rip,
					 .vcpu = fault->vcpu,
					 .again = fault->again,
					 .handled = fault->handled};
}

bool trace_kvm_record_take(const struct trace_meta *meta, const struct trace_kvm_record *record,
			   struct kvm_fault *out)
{
	*out = (struct kvm_fault){.at = record->at,
				  .entry = record->entry,
				  .gpa = record->gpa,
				  .error_code = record->error_code,
				  .rip = record->rip,
				  .vcpu = record->vcpu,
				  .again = record->again == 1,
				  .handled = record->handled == 1};
	return record->at <= record->entry && record->entry <= INT64_MAX &&
	       record->vcpu < meta->cpus && record->again <= 1 && record->handled <= 1 &&
	       !record->unused;
}

void trace_kvm_tail_of(const struct trace_kvm_told *told, struct trace_kvm_tail *out)
{
	*out = (struct trace_kvm_tail){.exits = told->counts.exits,
				       .entries = told->counts.entries,
				       .lost = told->counts.lost,
				       .counted = told->counted,
				       .stat_exits = told->exits,
				       .taken = told->taken,
				       .fixed = told->fixed};
	snprintf(out->missing, sizeof(out->missing), "%s", told->missing ? told->missing : "");
}

/* It is shown to people: printable ASCII, ended by zeros. */
static bool is_text(const char *text)
{
	size_t at = 0;

	while (at < TRACE_MISSING_MAX && text[at] >= ' ' && text[at] <= '~')
		at++;
	if (at == TRACE_MISSING_MAX)
		return false;
	while (at < TRACE_MISSING_MAX && !text[at])
		at++;
	return at == TRACE_MISSING_MAX;
}

bool trace_kvm_tail_take(const struct trace_kvm_tail *tail, struct trace_kvm_told *out)
{
	const uint64_t numbers[] = {tail->exits,      tail->entries, tail->lost,
				    tail->stat_exits, tail->taken,   tail->fixed};
	bool fits = tail->counted <= 1 && is_text(tail->missing);

	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		fits &= numbers[i] <= INT64_MAX;
	*out = (struct trace_kvm_told){.missing = *tail->missing ? tail->missing : NULL,
				       .counts = {tail->exits, tail->entries, tail->lost},
				       .counted = tail->counted,
				       .exits = tail->stat_exits,
				       .taken = tail->taken,
				       .fixed = tail->fixed};
	return fits;
}
