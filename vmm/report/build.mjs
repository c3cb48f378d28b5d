// One page of what stands here and of the libraries: node build.mjs MODULES OUT
// The script's hash goes into the page's policy: no other script runs in it.
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const [modules, out] = process.argv.slice(2).map((path) => resolve(path));
const here = dirname(fileURLToPath(import.meta.url));
const { buildSync } = createRequire(join(modules, 'x'))('esbuild');

const bundle = (entry) => buildSync({
	entryPoints: [join(here, entry)], nodePaths: [modules], bundle: true, minify: true, write: false,
	format: 'iife', target: 'es2020', charset: 'utf8', legalComments: 'none', logLevel: 'warning',
	define: { 'process.env.NODE_ENV': '"production"' },
}).outputFiles[0].text.trim();

const escaped = (text) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
const licences = ['echarts', 'zrender', 'tslib'].map((name) => {
	const { version, license } = JSON.parse(readFileSync(join(modules, name, 'package.json'), 'utf8'));
	const files = { echarts: ['NOTICE', 'LICENSE'], zrender: ['LICENSE'], tslib: ['LICENSE.txt'] }[name];
	return [`${name} ${version}, ${license}`, ...files.map((file) => readFileSync(join(modules, name, file), 'utf8'))].join('\n\n');
}).join('\n\n');

const script = bundle('src/main.js').replaceAll('</script', '<\\/script');
const parts = {
	'@STYLE@': bundle('style.css'),
	'@LICENCES@': escaped(licences),
	'@SCRIPT_HASH@': `sha256-${createHash('sha256').update(script).digest('base64')}`,
	'@SCRIPT@': script,
};
const page = readFileSync(join(here, 'page.html'), 'utf8')
	.replace(/@[A-Z_]+@/g, (place) => parts[place] ?? place);
writeFileSync(out, page);
