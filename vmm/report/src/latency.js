// How long faults of each case took: a strip of buckets a case, with its percentiles.
import { axis, chart, colours, onColours, rampCss, rectangles, shade, tip } from './chart.js';
import { asTable, el, section } from './dom.js';
import { count, faults, micros, time } from './format.js';

// Buckets are four a power of two, told by where they end.
function bucketBegin(end) {
	const octave = 2 ** Math.floor(Math.log2(Math.max(end - 1, 16)));
	return Math.max(end - octave / 4, 1);
}

function strips(cases) {
	return cases.flatMap((one, i) => {
		const most = Math.max(...one.buckets.map(([, n]) => n));
		return one.buckets.filter(([end]) => end > 1).map(([end, n]) =>
			[bucketBegin(end), end, i - 0.36, i + 0.36, shade(0.12 + 0.88 * Math.sqrt(n / most)), one, n]);
	});
}

function marks(name, symbol, symbolSize, cases, value) {
	const c = colours();
	return {
		name, type: 'scatter', symbol, symbolSize, animation: false, z: 5,
		itemStyle: { color: c.ink, borderColor: c.card, borderWidth: 2, opacity: 1 },
		data: cases.flatMap((one, i) => (value(one) >= 1 ? [{ value: [value(one), i], one }] : [])),
	};
}

function option(cases, what, narrow) {
	const c = colours();
	const ends = cases.flatMap((one) => [bucketBegin(one.buckets[0][0]), one.max]);
	const low = 10 ** Math.floor(Math.log10(Math.max(1, Math.min(...ends))));
	return {
		grid: { left: narrow ? 108 : 140, right: 22, top: 8, bottom: 50 },
		xAxis: axis(`time ${what} (log)`, {
			type: 'log', logBase: 10, min: low, max: 10 ** Math.ceil(Math.log10(Math.max(...ends) + 1)), nameGap: 30,
			axisLabel: { color: c.soft, fontSize: 12, hideOverlap: true, formatter: time },
		}),
		yAxis: axis('', {
			type: 'value', inverse: true, min: -0.5, max: cases.length - 0.5, interval: 1, splitLine: { show: false },
			axisTick: { show: false },
			axisLabel: {
				color: c.ink, fontSize: 12.5, width: narrow ? 96 : 128, overflow: 'truncate',
				customValues: cases.map((_, i) => i), formatter: (i) => cases[i]?.case ?? '',
			},
		}),
		tooltip: tip({
			formatter: ({ data }) => (data.one
				? `${data.one.case}\np50 ${time(data.one.p50)}\np99 ${time(data.one.p99)}\nmax ${time(data.one.max)}`
				: `${data[5].case}\n${time(data[0])} to ${time(data[1])}\n${faults(data[6])}`),
		}),
		series: [
			rectangles(strips(cases)),
			marks('max', 'rect', [3, 16], cases, (one) => one.max),
			marks('p99', 'diamond', 11, cases, (one) => one.p99),
			marks('p50', 'circle', 9, cases, (one) => one.p50),
		],
	};
}

// Keys, chart and table of cases: { case, faults, p50, p90, p99, p999, max, buckets }.
export function times(cases, by, what) {
	const timed = cases.filter((one) => one.max > 0);
	const ramp = el('i', { class: 'ramp' });
	const ink = [el('i', { class: 'dot' }), el('i', { class: 'turned' }), el('i', { class: 'bar' })];
	onColours(() => {
		ramp.style.background = rampCss();
		ink.forEach((i) => { i.style.background = colours().ink; });
	});
	const keys = ['half of them, at most', '99 %', 'the longest'].map((text, i) => el('span', { class: 'key' }, ink[i], text));
	return [
		el('div', { class: 'above' }, el('span', { class: 'key' }, 'few', ramp, 'most of the row'), ...keys),
		timed.length ? chart(`Time ${what}, by ${by}`, 62 + 34 * timed.length, (width, narrow) => option(timed, what, narrow))
			: el('p', {}, 'No fault took any time.'),
		asTable(`Time ${what}, by ${by}`, [by, 'faults', 'p50 µs', 'p90 µs', 'p99 µs', 'p99.9 µs', 'max µs'], cases.map((one) =>
			[one.case, [count(one.faults), one.faults], ...['p50', 'p90', 'p99', 'p999', 'max'].map((p) => [micros(one[p]), one[p]])])),
	];
}

export const latency = (data) =>
	section('latency', 'What a fault took, by case',
		'From when the fault was picked up to when it was resolved and who waited was woken. The way out of the guest and back in is not in it.'
		+ ' Strips are strongest where most of that case lie; buckets are a quarter of a power of two, percentiles within 6.25 %.',
		...times(data.summary.cases.map((one, i) => ({ case: one.case, faults: one.faults, ...one.latency_ns, ...data.latency[i] }))
			.sort((a, b) => b.faults - a.faults), 'case', 'from picked up to resolved'));
