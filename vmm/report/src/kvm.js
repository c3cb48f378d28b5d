// What KVM told of nested page faults, those that the host kernel resolved among them.
import { el, section } from './dom.js';
import { overTime } from './faults.js';
import { count } from './format.js';
import { times } from './latency.js';
import { sum } from './time.js';

const WHO = { handler: "foal's handlers", host: 'the host kernel', again: 'tried again', outside: 'no memory' };

// By KVM's own count, or why that is not known.
function statistics({ statistics: counted, statistics_missing: why }) {
	const text = counted ? `${count(counted.exits)} exits, ${count(counted.pf_taken)} page faults taken, ${count(counted.pf_fixed)} fixed`
		: why;
	return `By KVM's statistics (KVM_GET_STATS_FD) meanwhile: ${text}.`;
}

function samples(told) {
	if (told.missing)
		return `KVM's tracepoints could not be watched: ${told.missing}.`;
	const { exits, entries, lost } = told.tracepoints;
	if (exits === undefined)
		return 'How many exits there were is not known: the trace is cut short.';
	if (exits === 0)
		return `KVM's tracepoints were watched, and none came${told.statistics?.exits ? ', though KVM counted exits: it passes none' : ''}.`;
	return `${count(exits)} exits and ${count(entries)} entries; ${count(lost)} samples lost.`;
}

function byWho({ told, faults }) {
	return Object.entries(faults).map(([name, { series, exit_to_entry: hist }]) => {
		const one = told.tracepoints?.[name];
		return { name: WHO[name], case: WHO[name], total: sum(series), series, faults: one?.faults ?? 0, ...one?.exit_to_entry_ns, ...hist };
	}).filter((one) => one.total);
}

// Sections, none where KVM was not asked.
export function kvm(data, line) {
	if (!data.kvm)
		return [];
	const { told } = data.kvm;
	const who = byWho(data.kvm);
	const text = `Each exit of a vCPU for a nested page fault, by who resolved it. ${samples(told)} ${statistics(told)}`;
	const title = "KVM's page faults over time";
	if (!who.length)
		return [section('kvm', title, text)];
	return [el('div', { class: 'pair' },
		section('kvm', title, text, ...overTime(who, line, 'resolved by')),
		section('kvm-times', 'What it took the guest',
			"From the vCPU's exit to its next entry: the way out, waking, resolving and the way back are all in it.",
			...times(who, 'resolved by', 'from exit to entry')))];
}
