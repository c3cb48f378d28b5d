// How the pages came that the guest ever had: the curve of its working set.
import { axis, chart, colours, timeAxis, tip } from './chart.js';
import { asTable, el, section } from './dom.js';
import { count, percent, size, time } from './format.js';
import { sum } from './time.js';

const SHARES = [50, 90, 99, 100];

const growing = (list) => {
	let all = 0;
	return list.map((n) => (all += n));
};

// By when @share percent had come: the end of the column in which they did.
function markOf(share, curve, faults, line) {
	const column = curve.findIndex((n) => n * 100 >= share * curve.at(-1));
	return { share, pages: curve[column], faults: faults[column], ns: line.begin(column + 1) };
}

function option(curve, marks, line, unit, narrow) {
	const c = colours();
	const points = [[line.at(0), 0], ...curve.map((n, column) => [line.at(column + 1), n])];
	return {
		grid: { left: narrow ? 58 : 70, right: 18, top: 34, bottom: 50 },
		xAxis: timeAxis(line),
		yAxis: axis(unit === 4096 ? 'pages of 4 KiB' : `pieces of ${size(unit)}`, {
			type: 'value', minInterval: 1, nameLocation: 'end', nameTextStyle: { color: c.soft, fontSize: 12, align: 'left', padding: [0, 0, 0, -46] },
		}),
		tooltip: tip({
			trigger: 'axis',
			formatter: ([{ value: [at, n] }]) => `by ${time(line.toNs(at))}\n${count(n)}, ${size(n * unit)}\n${percent(n, curve.at(-1))} of all that came`,
		}),
		series: [{
			type: 'line', step: 'start', symbol: 'none', animation: false, data: points,
			lineStyle: { color: c.strong, width: 2 }, itemStyle: { color: c.strong }, areaStyle: { color: c.strong, opacity: 0.14 },
			markLine: {
				silent: true, symbol: 'none', animation: false, lineStyle: { color: c.soft, type: 'dashed', width: 1 },
				data: marks.filter((mark) => mark.share < 100).map((mark) => ({
					yAxis: mark.pages, label: { position: mark.share === 90 ? 'insideStartBottom' : 'insideStartTop', formatter: `${mark.share} % by ${time(mark.ns)}`, color: c.ink, fontSize: 12 },
				})),
			},
		}],
	};
}

export function workingSet(data, line) {
	const text = 'Different pages that had come, and by when 50, 90 and 99 % of them had. A start that is quick because it postpones its work climbs late.';
	const curve = growing(data.pages.new);
	const all = curve.at(-1) ?? 0, putIn = sum(data.pages.put_in);
	if (!all)
		return section('working-set', 'Working set', text, el('p', {}, 'No page came in this trace.'));
	const faults = growing(data.pages.new.map((_, column) => sum(data.faults.map((series) => series[column]))));
	const marks = SHARES.map((share) => markOf(share, curve, faults, line));
	return section('working-set', 'Working set', text,
		el('div', { class: 'above' }, `${count(all)} different, ${size(all * data.space.unit_bytes)}; ${count(putIn)} pages put in, those that came back counted again`),
		chart('Pages that had come, over time', 300, (width, narrow) => option(curve, marks, line, data.space.unit_bytes, narrow)),
		asTable('Working set', ['share', 'had come by', 'pages', 'with faults'], marks.map((mark) =>
			[`${mark.share} %`, [time(mark.ns), mark.ns], [count(mark.pages), mark.pages], [count(mark.faults), mark.faults]])));
}
