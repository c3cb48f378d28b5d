// Numbers as people read them, with their units.

const grouped = new Intl.NumberFormat('en');

export const count = (n) => grouped.format(n);

export const faults = (n) => `${count(n)} fault${n === 1 ? '' : 's'}`;

// Three digits that say something, no zeros behind them.
const short = (x) => (x >= 100 ? grouped.format(Math.round(x)) : String(Number(x.toPrecision(3))));

const scaled = (value, units) => {
	const sign = value < 0 ? '-' : '';
	let unit = units[0];
	for (const u of units)
		if (Math.abs(value) >= u[0])
			unit = u;
	return `${sign}${short(Math.abs(value) / unit[0])} ${unit[1]}`;
};

const TIMES = [[1, 'ns'], [1e3, 'µs'], [1e6, 'ms'], [1e9, 's']];
const SIZES = [[1, 'B'], [1024, 'KiB'], [1024 ** 2, 'MiB'], [1024 ** 3, 'GiB'], [1024 ** 4, 'TiB']];

export const time = (ns) => (ns === 0 ? '0' : scaled(ns, TIMES));
export const size = (bytes) => (bytes === 0 ? '0' : scaled(bytes, SIZES));
export const hex = (address) => `0x${address.toString(16)}`;
export const micros = (ns) => (ns / 1000).toFixed(1);
export const percent = (part, whole) => (whole ? `${short((100 * part) / whole)} %` : '–');

// The unit of an axis as long as @span: [divisor, name].
export const timeUnit = (span) => TIMES.filter((u) => span >= 2 * u[0]).pop() ?? TIMES[0];
export const sizeUnit = (span) => SIZES.filter((u) => span >= 2 * u[0]).pop() ?? SIZES[0];
