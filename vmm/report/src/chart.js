// What all charts have in common: the library's parts, colours, axes, light and dark, sizes.
import * as echarts from 'echarts/core';
import { BarChart, CustomChart, LineChart, ScatterChart } from 'echarts/charts';
import { GridComponent, MarkLineComponent, TooltipComponent } from 'echarts/components';
import { CanvasRenderer } from 'echarts/renderers';
import { el } from './dom.js';

echarts.use([BarChart, CustomChart, LineChart, ScatterChart, GridComponent, MarkLineComponent,
	TooltipComponent, CanvasRenderer]);

const dark = window.matchMedia('(prefers-color-scheme: dark)');
const FONT = 'system-ui, -apple-system, "Segoe UI", "Noto Sans", "DejaVu Sans", sans-serif';
const NARROW = 560;

const LIGHT = {
	ink: '#14181f', soft: '#5a6472', line: '#dde1e7', card: '#ffffff', strong: '#1f63b8', pale: '#d5dae2',
	ramp: ['#dcebfc', '#9ec5f4', '#4a90e2', '#1f63b8', '#0c2f63'],
	cases: ['#2a78d6', '#12a06c', '#e89a00', '#6a54c7', '#dd4545', '#d66a98', '#0b8b9c', '#8a6a3b'],
	rest: '#9aa3af',
};
const DARK = {
	ink: '#e8ebf0', soft: '#9aa5b4', line: '#2c333e', card: '#181c23', strong: '#5b9cec', pale: '#3a424e',
	ramp: ['#16304f', '#1f518c', '#3a82d2', '#7db4f5', '#dcecff'],
	cases: ['#4a90e8', '#25b582', '#d99a1c', '#9b8cf0', '#ea6c6c', '#dd78a6', '#2fb0c2', '#b79361'],
	rest: '#6f7a88',
};

export const colours = () => (dark.matches ? DARK : LIGHT);
export const MANY = LIGHT.cases.length;

// @part, 0 to 1, on the way from pale to strong.
export function shade(part) {
	const { ramp } = colours();
	const at = Math.min(Math.max(part, 0), 1) * (ramp.length - 1);
	const i = Math.min(Math.floor(at), ramp.length - 2);
	const channel = (colour, c) => parseInt(colour.slice(1 + 2 * c, 3 + 2 * c), 16);
	const mix = [0, 1, 2].map((c) =>
		Math.round(channel(ramp[i], c) + (at - i) * (channel(ramp[i + 1], c) - channel(ramp[i], c))));
	return `rgb(${mix.join()})`;
}

export const rampCss = () => `linear-gradient(to right, ${colours().ramp.join()})`;

export function axis(name, more = {}) {
	const c = colours();
	return {
		name, nameLocation: 'middle', nameTextStyle: { color: c.soft, fontSize: 12 },
		axisLabel: { color: c.soft, fontSize: 12, hideOverlap: true },
		axisLine: { show: true, onZero: false, lineStyle: { color: c.line } },
		axisTick: { show: true, lineStyle: { color: c.line } },
		splitLine: { lineStyle: { color: c.line, opacity: 0.6 } },
		...more,
	};
}

// The axis of time: its ends are where the trace's are, and seldom round.
export const timeAxis = (line) => axis(line.axisName, {
	type: 'value', min: line.min, max: line.max, nameGap: 30, splitLine: { show: false },
	axisLabel: {
		color: colours().soft, fontSize: 12, hideOverlap: true, showMaxLabel: false,
		formatter: (value) => String(Number(value.toPrecision(4))),
	},
});

// How all charts say what is under the pointer.
export const tip = (more) => ({
	renderMode: 'richText', confine: true, transitionDuration: 0,
	backgroundColor: colours().card, borderColor: colours().line,
	textStyle: { color: colours().ink, fontSize: 13, fontFamily: FONT },
	axisPointer: { lineStyle: { color: colours().soft } }, ...more,
});

// Rectangles of [x0, x1, y0, y1, colour, ...] in the units of the axes.
export const rectangles = (data, grow = 0) => ({
	type: 'custom', data, encode: { x: [0, 1], y: [2, 3] }, clip: true, progressive: 0, animation: false,
	renderItem: (params, api) => {
		const [left, bottom] = api.coord([api.value(0), api.value(2)]);
		const [right, top] = api.coord([api.value(1), api.value(3)]);
		return {
			type: 'rect',
			shape: {
				x: left, y: Math.min(top, bottom),
				width: Math.max(right - left + grow, 1), height: Math.max(Math.abs(bottom - top) + grow, 1),
			},
			style: { fill: data[params.dataIndex][4] },
		};
	},
});

// @build(width) gives the option; asked again when colours or the width change.
// Tooltips are drawn on the canvas: nothing in them is markup.
export function chart(label, height, build) {
	const box = el('div', { class: 'chart', role: 'img', 'aria-label': label, style: { height: `${height}px` } });
	let instance = null;
	const draw = () => {
		const c = colours();
		instance?.dispose();
		instance = echarts.init(box, null, { renderer: 'canvas' });
		instance.setOption({
			animation: false,
			textStyle: { fontFamily: FONT, color: c.ink },
			...build(box.clientWidth, box.clientWidth < NARROW),
		});
	};
	let width = 0;
	new ResizeObserver(() => {
		if (box.clientWidth === width)
			return;
		width = box.clientWidth;
		draw();
	}).observe(box);
	dark.addEventListener('change', draw);
	box.redraw = draw;
	return box;
}

export const onColours = (apply) => {
	apply();
	dark.addEventListener('change', apply);
};
