// Draw the top of a page of foal report: node picture.mjs MODULES PAGE OUT.png
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { drawn, launch } from './browser.mjs';

const [modules, path, out] = process.argv.slice(2).map((each) => resolve(each));
const browser = await launch(modules);
const page = await browser.newPage({ viewport: { width: 1000, height: 1230 } });
await page.goto(pathToFileURL(path).href);
await drawn(page);
await page.screenshot({ path: out });
await browser.close();
