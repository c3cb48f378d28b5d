// The page, in order: what it is of, totals, charts. All of it comes from the data in the page.
import { el, section, table } from './dom.js';
import { faults } from './faults.js';
import { files } from './files.js';
import { count, micros, percent, size, time } from './format.js';
import { kvm } from './kvm.js';
import { latency } from './latency.js';
import { space } from './space.js';
import { sum, timeline } from './time.js';
import { workingSet } from './working_set.js';

const FORMAT = 2;

const tile = (name, value, more) => el('div', { class: 'tile' }, el('dt', {}, name), el('dd', {}, value, el('small', {}, more)));
const note = (text) => el('p', { class: 'note', role: 'note' }, text);

function tiles(data) {
	const { cases, records, lost } = data.summary;
	const all = (field) => sum(cases.map((one) => one[field]));
	const came = sum(data.pages.new) * data.space.unit_bytes;
	return el('dl', { class: 'tiles' },
		tile('Faults', count(records), `${count(all('major'))} read the object`),
		tile('Time', time(data.summary.last_ns - data.summary.first_ns), 'from the first to the last'),
		tile('Memory that came', size(came), `${percent(came, data.space.bytes)} of ${size(data.space.bytes)}`),
		tile('Read by faults', size(all('bytes_read')), data.files.areas.length ? 'of the files below' : 'no area has a file'),
		tile('Records lost', data.cut ? `${count(lost)} or more` : count(lost), data.cut ? 'the trace is cut short' : 'before they could be read'));
}

function notes(data) {
	const list = [];
	if (data.cut)
		list.push(note(`The trace is not whole: ${data.cut}. All below is of those.`));
	if (data.summary.lost)
		list.push(note(`${count(data.summary.lost)} records were overwritten before they were read: the VM faulted faster than they were taken. All below lacks them.`));
	if (data.unseen.length)
		list.push(note(`Of ${data.unseen.join(', ')} the host kernel resolves the faults, and there are no records of them (foal run --fault-engine handler).${
			data.kvm?.told.tracepoints ? ' What KVM told of them is below.' : ''}`));
	return list;
}

function head(data) {
	const { vm } = data.summary;
	document.title = `${vm}: faults`;
	return [el('h1', {}, `Faults of ${vm}`),
		el('p', { class: 'soft' }, `${size(data.memory)} of memory, ${data.cpus} vCPU${data.cpus === 1 ? '' : 's'}; each fault that foal's handlers resolved for it`),
		tiles(data), ...notes(data)];
}

// The same numbers as foal trace FILE.
function totals(data) {
	const number = (n) => [count(n), n];
	const rows = data.summary.cases.map((one) => [one.case, number(one.faults), number(one.major), number(one.installed),
		number(one.around), number(one.granted), [(one.bytes_read / 1024).toFixed(1), one.bytes_read],
		...['p50', 'p99', 'max'].map((p) => [micros(one.latency_ns[p]), one.latency_ns[p]])]);
	const origins = Object.entries(data.summary.by_origin).map(([name, n]) => `${name} ${count(n)}`).join(', ');
	return section('totals', 'Totals by case', `By origin: ${origins}. What the cases mean: foal help cases.`,
		table('Totals by case', ['case', 'faults', 'major', 'installed', 'around', 'granted', 'read KiB', 'p50 µs', 'p99 µs', 'max µs'], rows));
}

const ripTable = (title, list) => table(title, ['RIP', 'symbol', 'faults'],
	list.map((one) => [(one.near ? 'near ' : '') + one.rip, one.symbol ?? 'not known', [count(one.faults), one.faults]]));

// Each table names its source.
function rips(data) {
	const title = 'Guest instructions that faulted';
	const told = data.kvm?.told.tracepoints?.rips ?? [];
	const { sampled } = data;
	const parts = [];
	if (told.length)
		parts.push(el('p', { class: 'soft' }, "Source: KVM's tracepoint kvm_page_fault, each fault, but for those that were tried again."), ripTable(title, told));
	if (sampled)
		parts.push(el('p', { class: 'soft' }, `Source: kicks at 1 in ${count(sampled.every)} faults of a vCPU: ${count(sampled.samples)} samples, ${count(sampled.exact)} exact, ${count(sampled.ring3)} of ring 3; ${count(sampled.lost)} were overwritten before they were read.`),
			ripTable(`${title}, sampled`, sampled.rips));
	if (!parts.length)
		return section('rips', title, 'Not recorded: this trace does not say which instruction of the guest made the access (foal run --rip-sample, foal trace --kvm).');
	return section('rips', title, 'Those with the most faults. Symbols are those of the file that foal report was given with --symbols.', ...parts);
}

function show(data) {
	const main = document.getElementById('main');
	document.getElementById('head').append(...head(data));
	const line = timeline(data);
	if (line.columns)
		main.append(space(data, line));
	if (data.summary.records)
		main.append(el('div', { class: 'pair' }, faults(data, line), workingSet(data, line), latency(data), files(data)));
	else
		main.append(note('There is no record in this trace.'));
	main.append(...kvm(data, line));
	if (data.summary.records)
		main.append(totals(data));
	main.append(rips(data));
}

const data = JSON.parse(document.getElementById('trace').textContent);
if (data.format === FORMAT)
	show(data);
else
	document.getElementById('main').append(note(`This page reads data of format ${FORMAT}, and was given ${data.format}.`));
document.getElementById('foot').prepend(el('p', {}, `Made by foal ${data.foal}; drawn with Apache ECharts and ZRender.`));
document.documentElement.dataset.ready = 'yes';
