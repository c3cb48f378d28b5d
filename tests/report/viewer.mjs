// Open trace events in speedscope, a viewer of them by others, as file://: node viewer.mjs MODULES TRACE
// What it complains of, and what it read, as JSON: by thread the slices that it opened and closed.
import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { launch } from './browser.mjs';

const [modules, path] = process.argv.slice(2).map((each) => resolve(each));
const WEBGL = '[.WebGL-'; // the browser's own words, of how fast it draws

const browser = await launch(modules);
const page = await browser.newPage();
const said = [];
page.setDefaultTimeout(0);
page.on('console', (message) => ['warning', 'error'].includes(message.type()) && !message.text().startsWith(WEBGL)
	&& said.push(message.text()));
page.on('pageerror', (error) => said.push(String(error)));
await page.goto(pathToFileURL(join(modules, 'speedscope/dist/release/index.html')).href);
await page.locator('input[type=file]').setInputFiles(path);
const [download] = await Promise.all([page.waitForEvent('download'), page.getByText('Export').click()]);
const { profiles } = JSON.parse(await readFile(await download.path(), 'utf8'));
await browser.close();

const threads = profiles.map(({ name, events }) => ({
	name, opened: events.filter(({ type }) => type === 'O').length, closed: events.filter(({ type }) => type === 'C').length,
}));
console.log(JSON.stringify({ said, threads }));
