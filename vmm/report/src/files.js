// How much of each file behind guest memory was read by faults.
import { axis, chart, colours, onColours, tip } from './chart.js';
import { asTable, el, section } from './dom.js';
import { count, percent, size, sizeUnit } from './format.js';

const SHOWN = 16;

function option(areas, narrow) {
	const c = colours();
	const [divisor, unit] = sizeUnit(Math.max(...areas.map((one) => Math.max(one.bytes, one.read))));
	const bar = (name, field, colour, more) => ({
		name, type: 'bar', animation: false, barWidth: 16, itemStyle: { color: colour, borderRadius: 3 },
		emphasis: { disabled: true }, data: areas.map((one) => one[field] / divisor), ...more,
	});
	// Behind the longer of the two bars.
	const share = (has) => ({
		show: true, position: 'right', color: c.soft, fontSize: 12,
		formatter: ({ dataIndex: i }) => (has(areas[i]) ? percent(areas[i].read, areas[i].bytes) : ''),
	});
	return {
		grid: { left: narrow ? 92 : 128, right: 56, top: 8, bottom: 50 },
		xAxis: axis(unit, { type: 'value', min: 0, nameGap: 30 }),
		yAxis: axis('', {
			type: 'category', inverse: true, data: areas.map((one) => one.area), axisTick: { show: false },
			axisLabel: { color: c.ink, fontSize: 12.5, width: narrow ? 80 : 116, overflow: 'truncate', interval: 0 },
		}),
		tooltip: tip({
			trigger: 'item',
			formatter: ({ dataIndex: i }) => `${areas[i].area}\n${size(areas[i].read)} read of ${size(areas[i].bytes)} (${percent(areas[i].read, areas[i].bytes)})`,
		}),
		series: [
			bar('in the area', 'bytes', c.pale, { barGap: '-100%', label: share((one) => one.read <= one.bytes) }),
			bar('read', 'read', c.strong, { z: 3, label: share((one) => one.read > one.bytes) }),
		],
	};
}

export function files(data) {
	const text = 'Bytes that faults read themselves, beside the size of the area of the file. What was read ahead of faults, or came out of the'
		+ ' page cache, is in no record; what was read twice counts twice.';
	const areas = data.files.areas;
	if (!areas.length)
		return section('files', 'Read from files', text, el('p', {}, 'No area of this VM has a file.'));
	const squares = [el('i'), el('i')];
	onColours(() => [colours().strong, colours().pale].forEach((colour, i) => { squares[i].style.background = colour; }));
	const shown = [...areas].sort((a, b) => b.read - a.read || b.bytes - a.bytes).slice(0, SHOWN);
	const more = areas.length + data.files.left_out - shown.length;
	return section('files', 'Read from files', text,
		el('div', { class: 'above' }, el('span', { class: 'key' }, squares[0], 'read'), el('span', { class: 'key' }, squares[1], 'size'),
			...(more ? [`${count(more)} further areas are not drawn`] : [])),
		chart('Bytes read of each file', 62 + 30 * shown.length, (width, narrow) => option(shown, narrow)),
		asTable('Read from files', ['area', 'file', 'faults', 'read', 'size', 'of it'], areas.map((one) =>
			[one.area, one.file, [count(one.faults), one.faults], [size(one.read), one.read], [size(one.bytes), one.bytes],
				[percent(one.read, one.bytes), one.read / one.bytes]])));
}
