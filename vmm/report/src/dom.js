// Elements. Text goes in as text: what a trace says is never taken for markup.

export function el(tag, attributes = {}, ...children) {
	const node = document.createElement(tag);
	for (const [name, value] of Object.entries(attributes)) {
		if (name === 'style')
			Object.assign(node.style, value);
		else
			node.setAttribute(name, value);
	}
	node.append(...children);
	return node;
}

// @rows: each a list of cells, a text or [what is shown, the number that it stands for].
export function table(caption, columns, rows) {
	const cell = (value, i) => {
		const [shown, raw] = Array.isArray(value) ? value : [value, value];
		return i === 0
			? el('th', { scope: 'row' }, shown)
			: el('td', { 'data-value': raw, ...(typeof raw === 'string' && { class: 'text' }) }, shown);
	};
	const head = (name, i) =>
		el('th', { scope: 'col', ...(typeof (rows[0]?.[i]) === 'string' && { class: 'text' }) }, name);
	return el('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': caption },
		el('table', {},
			el('thead', {}, el('tr', {}, ...columns.map(head))),
			el('tbody', {}, ...rows.map((row) => el('tr', {}, ...row.map(cell))))));
}

// The same numbers as a chart shows, for who reads or tabs through them.
export const asTable = (caption, columns, rows) =>
	el('details', {}, el('summary', {}, 'As a table'), table(caption, columns, rows));

export const key = (style, text, shape = '') =>
	el('span', { class: 'key' }, el('i', { class: shape, style }), text);

export function section(id, title, text, ...children) {
	return el('section', { id, 'aria-labelledby': `${id}-title` },
		el('h2', { id: `${id}-title` }, title), el('p', { class: 'soft' }, text), ...children);
}
