// Which guest-physical memory came when: rows of addresses, columns of time.
import { axis, chart, colours, onColours, rampCss, rectangles, shade, timeAxis, tip } from './chart.js';
import { asTable, el, section } from './dom.js';
import { count, faults as faultsText, hex, percent, size, time } from './format.js';

const HEIGHT = 420;

// Units (pages, but in a huge guest) of each row, and its cells in order of time.
function rowsOf(space) {
	const unit = space.unit_bytes;
	const rows = space.rows.map((gpa, i) => ({
		gpa, cells: [], faults: 0, there: 0, host: 0,
		units: Math.ceil(Math.min(space.row_bytes, space.bytes - i * space.row_bytes) / unit),
	}));
	for (const [row, column, fresh, faults, host] of space.cells) {
		rows[row].cells.push({ column, fresh, faults, host });
		rows[row].host += host;
		rows[row].faults += faults;
		rows[row].there += fresh;
	}
	return rows;
}

// From each moment at which pages came to the next: what was there.
function thereRuns(rows, line) {
	return rows.flatMap((row, r) => {
		const news = row.cells.filter((c) => c.fresh);
		let there = 0;
		return news.map((cell, i) => {
			const end = news[i + 1]?.column ?? line.columns;
			there += cell.fresh;
			return [line.at(cell.column), line.at(end), r, r + 1, shade(there / row.units),
				row, `${percent(there, row.units)} of it had come (${count(there)} of ${count(row.units)})`,
				cell.column];
		});
	});
}

// Of the counter of that name.
const faultCells = (name) => (rows, line) => {
	const most = Math.max(1, ...rows.flatMap((row) => row.cells.map((c) => c[name])));
	return rows.flatMap((row, r) => row.cells.filter((c) => c[name]).map((cell) =>
		[line.at(cell.column), line.at(cell.column + 1), r, r + 1,
			shade(Math.log1p(cell[name]) / Math.log1p(most)), row,
			faultsText(cell[name]), cell.column]));
};

// Rows behind which addresses jump.
const gapsOf = (space) => space.rows.flatMap((gpa, i) =>
	(i && gpa !== space.rows[i - 1] + space.row_bytes ? [{ yAxis: i }] : []));

function option(space, rows, line, cells, narrow) {
	const c = colours();
	return {
		grid: { left: narrow ? 66 : 84, right: 18, top: 12, bottom: 52 },
		xAxis: timeAxis(line),
		yAxis: axis('', {
			type: 'value', min: 0, max: rows.length, splitLine: { show: false },
			interval: Math.max(1, Math.ceil(rows.length / 8)),
			axisLabel: { color: c.soft, fontSize: 12, formatter: (row) => (rows[row] ? size(rows[row].gpa) : '') },
		}),
		tooltip: tip({
			formatter: ({ data }) => (data?.[5]
				? `from ${hex(data[5].gpa)}, ${size(space.row_bytes)}\nat ${time(line.begin(data[7]))}\n${data[6]}` : ''),
		}),
		series: [{
			...rectangles(cells, 0.6),
			markLine: {
				silent: true, symbol: 'none', label: { show: false }, data: gapsOf(space),
				lineStyle: { color: c.soft, type: 'dashed', width: 1 },
			},
		}],
	};
}

function legend(views, first, show) {
	const ramp = el('i', { class: 'ramp' });
	const low = el('span'), high = el('span');
	onColours(() => { ramp.style.background = rampCss(); });
	const buttons = views.map((view) => {
		const button = el('button', { type: 'button', 'aria-pressed': 'false' }, view.name);
		button.addEventListener('click', () => choose(view));
		return button;
	});
	function choose(view) {
		views.forEach((v, i) => buttons[i].setAttribute('aria-pressed', String(v === view)));
		low.textContent = view.low;
		high.textContent = view.high;
		show(view);
	}
	choose(first);
	return el('div', { class: 'above' },
		el('div', { class: 'choice', role: 'group', 'aria-label': 'What the map shows' }, ...buttons),
		el('span', { class: 'key' }, low, ramp, high));
}

export function space(data, line) {
	const rows = rowsOf(data.space);
	const what = data.space.unit_bytes === 4096 ? 'pages' : `pieces of ${size(data.space.unit_bytes)}`;
	const views = [
		{ name: 'Pages that had come', cells: thereRuns, low: 'few of a row', high: 'all' },
		{ name: 'Faults', cells: faultCells('faults'), low: 'one', high: 'most (log)' },
	];
	const host = rows.some((row) => row.host);
	if (host)
		views.push({ name: 'Faults of the host kernel', cells: faultCells('host'), low: 'one', high: 'most (log)' });
	let shown = views.find((view) => view.cells(rows, line).length) ?? views[0];
	const map = chart('Map of guest-physical memory over time', HEIGHT, (width, narrow) =>
		option(data.space, rows, line, shown.cells(rows, line), narrow));
	const touched = rows.filter((row) => row.faults || row.host);
	return section('space', 'Guest memory over time',
		`Each row is ${size(data.space.row_bytes)} of guest-physical memory, low addresses below; where it is dashed, addresses jump.`,
		legend(views, shown, (view) => { shown = view; map.redraw(); }), map,
		el('p', { class: 'soft small' }, 'A page counts from when it first came: that it left again (memory limit, balloon) no record says.'
			+ ' Which pages came along with the one asked for is not recorded either; they are drawn in the aligned block around it.'
			+ (data.space.outside ? ` In no area, and not drawn: ${faultsText(data.space.outside)}.` : '')),
		asTable('Guest memory by row', ['from', 'faults', what, 'of the row', ...(host ? ['of the host kernel'] : [])], touched.map((row) =>
			[hex(row.gpa), [count(row.faults), row.faults], [count(row.there), row.there],
				[percent(row.there, row.units), row.there / row.units], ...(host ? [[count(row.host), row.host]] : [])])));
}

