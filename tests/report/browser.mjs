// Debian's Chromium, by the library in @modules.
import { createRequire } from 'node:module';
import { join } from 'node:path';

const BROWSERS = ['/usr/bin/chromium-headless-shell', '/usr/bin/chromium'];

export async function launch(modules) {
	const { chromium } = createRequire(join(modules, 'x'))('playwright-core');
	for (const executablePath of BROWSERS) {
		try {
			return await chromium.launch({ executablePath, timeout: 0 });
		} catch (error) {
			if (!String(error).includes("doesn't exist"))
				throw error;
		}
	}
	throw new Error('no Chromium here: scripts/setup check');
}

// Charts are drawn when their size is known, in a frame after the one that has the page.
export const drawn = (page) => page.evaluate(() => new Promise((done) =>
	requestAnimationFrame(() => requestAnimationFrame(done))));
