// The columns of time that all is counted in, from the start of the VM's process.
import { timeUnit } from './format.js';

export function timeline(data) {
	const { from_ns: from, step_ns: step, columns } = data.time;
	const until = from + step * columns;
	const [divisor, unit] = timeUnit(until - from);
	return {
		columns, step, unit,
		begin: (column) => from + column * step, // ns
		at: (column) => (from + column * step) / divisor, // in the axis' unit
		inUnit: (ns) => ns / divisor,
		toNs: (value) => value * divisor,
		axisName: `${unit} since the VM's process began`,
		min: from / divisor, max: until / divisor,
	};
}

export const sum = (list) => list.reduce((a, b) => a + b, 0);
