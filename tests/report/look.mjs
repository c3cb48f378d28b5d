// Open a page of foal report in Debian's Chromium, as file://, and say as JSON what is there:
//   node look.mjs MODULES PAGE [PICTURES]
// of each width and colour scheme what each chart has drawn, what went wrong, what was asked of
// the network, and what the tables say. With PICTURES each is drawn to PICTURES-WIDTH-SCHEME.png.
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { drawn, launch } from './browser.mjs';

const [modules, path, pictures] = process.argv.slice(2).map((each) => resolve(each));

const VIEWS = [[1280, 'light'], [390, 'dark']];

// Runs in the page. How many pixels of each chart have a colour: words, axes and marks are grey.
function inPage() {
	const colours = (canvas) => {
		const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext('2d', { willReadFrequently: true });
		copy.drawImage(canvas, 0, 0);
		const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
		let coloured = 0, sum = 0;
		for (let i = 0; i < data.length; i += 4) {
			const [r, g, b, a] = data.subarray(i, i + 4);
			coloured += a > 128 && Math.max(r, g, b) - Math.min(r, g, b) > 48;
			sum = (sum * 31 + r + g + b + a) % 1000003;
		}
		return { coloured, sum };
	};
	const cells = (row) => [...row.children].map((cell) => cell.dataset.value ?? cell.textContent);
	const tables = Object.fromEntries([...document.querySelectorAll('section')].map((section) =>
		[section.id, [...section.querySelectorAll('tbody tr')].map(cells)]));
	const charts = Object.fromEntries([...document.querySelectorAll('.chart')].map((chart) =>
		[chart.closest('section').id, colours(chart.querySelector('canvas'))]));
	return {
		ready: document.documentElement.dataset.ready ?? 'no', title: document.title, charts, tables,
		text: document.body.innerText, heading: document.querySelector('h1')?.textContent,
		notes: [...document.querySelectorAll('.note')].map((note) => note.textContent),
		pwned: globalThis.pwned ?? null, scripts: document.scripts.length,
		foreign: document.querySelectorAll('img, iframe, b, object').length,
		sideways: document.documentElement.scrollWidth - document.documentElement.clientWidth,
	};
}

async function look(browser, width, colorScheme) {
	const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme });
	const page = await context.newPage();
	const said = [], requests = [];
	page.setDefaultTimeout(0);
	page.on('console', (message) => said.push(message.text()));
	page.on('pageerror', (error) => said.push(String(error)));
	page.on('request', (request) => requests.push(request.url()));
	await page.goto(pathToFileURL(path).href);
	await drawn(page);
	const seen = await page.evaluate(inPage);
	// The second view of the map, by the keyboard.
	await page.keyboard.press('Tab');
	await page.keyboard.press('Tab');
	const focus = await page.evaluate(() => document.activeElement?.textContent);
	await page.keyboard.press('Enter');
	const other = (await page.evaluate(inPage)).charts.space;
	if (pictures) {
		await page.keyboard.press('Shift+Tab');
		await page.keyboard.press('Enter');
		await page.evaluate(() => document.activeElement.blur());
		await page.screenshot({ path: `${pictures}-${width}-${colorScheme}.png`, fullPage: true });
	}
	await context.close();
	return { width, colorScheme, ...seen, focus, other, said, requests: requests.filter((url) => !url.startsWith('data:')) };
}

const browser = await launch(modules);
const views = [];
for (const [width, scheme] of VIEWS)
	views.push(await look(browser, width, scheme));
await browser.close();
console.log(JSON.stringify(views));
