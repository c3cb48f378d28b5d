// How many faults came when, stacked by case.
import { axis, chart, colours, MANY, onColours, timeAxis, tip } from './chart.js';
import { asTable, el, section } from './dom.js';
import { count, percent, time } from './format.js';
import { sum } from './time.js';

// The most frequent cases have colours of their own, all others share one.
function bandsOf(data) {
	const bands = data.summary.cases.map((one, i) => ({ name: one.case, total: one.faults, series: data.faults[i] }))
		.sort((a, b) => b.total - a.total);
	if (bands.length <= MANY)
		return bands;
	const rest = bands.slice(MANY - 1);
	return [...bands.slice(0, MANY - 1), {
		name: `${rest.length} other cases`, total: sum(rest.map((band) => band.total)), rest: true,
		series: rest[0].series.map((_, i) => sum(rest.map((band) => band.series[i]))),
	}];
}

const colourOf = (band, i) => (band.rest ? colours().rest : colours().cases[i]);

function option(bands, line, narrow) {
	const c = colours();
	return {
		grid: { left: narrow ? 52 : 64, right: 18, top: 30, bottom: 50 },
		xAxis: timeAxis(line),
		yAxis: axis(`faults in ${time(line.step)}`, {
			type: 'value', minInterval: 1, nameLocation: 'end', nameTextStyle: { color: c.soft, fontSize: 12, align: 'left', padding: [0, 0, 0, -40] },
		}),
		tooltip: tip({
			trigger: 'axis',
			formatter: (points) => [`from ${time(line.toNs(points[0].value[0]))}, ${time(line.step)}`,
				...points.filter((p) => p.value[1]).map((p) => `${p.seriesName}: ${count(p.value[1])}`)].join('\n'),
		}),
		series: bands.map((band, i) => ({
			name: band.name, type: 'line', step: 'end', stack: 'all', symbol: 'none', animation: false,
			lineStyle: { width: 0 }, areaStyle: { color: colourOf(band, i), opacity: 1 }, itemStyle: { color: colourOf(band, i) },
			emphasis: { disabled: true },
			// A step reaches from its column to the next: the last one, once more, ends it.
			data: [...band.series, band.series.at(-1)].map((n, column) => [line.at(column), n]),
		})),
	};
}

// Keys, chart and table of bands: { name, total, series, rest }, of what is said to be `by` something.
export function overTime(bands, line, by) {
	const squares = bands.map(() => el('i'));
	const all = sum(bands.map((band) => band.total));
	onColours(() => squares.forEach((square, i) => { square.style.background = colourOf(bands[i], i); }));
	const busiest = (series) => series.indexOf(Math.max(...series));
	return [
		el('div', { class: 'above' }, ...bands.map((band, i) => el('span', { class: 'key' }, squares[i], band.name))),
		chart(`Faults over time, by ${by}`, 300, (width, narrow) => option(bands, line, narrow)),
		asTable(`Faults over time by ${by}`, [by, 'faults', 'of all', `most in ${time(line.step)}`, 'that was at'],
			bands.map((band) => [band.name, [count(band.total), band.total], [percent(band.total, all), band.total],
				[count(Math.max(...band.series)), Math.max(...band.series)],
				[time(line.begin(busiest(band.series))), line.begin(busiest(band.series))]])),
	];
}

export const faults = (data, line) =>
	section('faults', 'Faults over time', `How many were picked up in each ${time(line.step)}, by case.`,
		...overTime(bandsOf(data), line, 'case'));
