// A report in a real browser, offline.
//
//     view_report.mjs CHROMIUM PAGE DIRECTORY     checks, one line each: `ok NAME` or `FAILED NAME: why`; exit 1 if any failed
//
// PAGE is an HTML file; pictures of its parts (light, dark, narrow) and a PDF go to DIRECTORY, which exists. Everything but file:, about: and
// data: is refused and counted. `playwright-core` is found through NODE_PATH (where tests/peers/install put it).

import assert from 'node:assert/strict';
import { statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const { chromium } = createRequire(import.meta.url)('playwright-core');

const [executablePath, file, directory] = process.argv.slice(2);
const url = pathToFileURL(file).href;
const WIDE = { width: 1280, height: 900 };
const NARROW = { width: 420, height: 900 };
// Nothing that a browser does by itself is to reach for a network.
const QUIET = ['--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];

let failed = 0;
async function check(name, work) {
  try {
    await work();
    console.log(`ok ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED ${name}: ${error.message}`);
  }
}

const browser = await chromium.launch({ executablePath, chromiumSandbox: process.getuid() !== 0, args: QUIET });
const refused = [];
const complaints = [];

// A page of its own: nothing is remembered from one to the next.
async function open(viewport, options = {}) {
  const context = await browser.newContext({ viewport, offline: true, ...options });
  await context.route(/^(?!file:|about:|data:)/, (route) => {
    refused.push(route.request().url());
    return route.abort();
  });
  const page = await context.newPage();
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') complaints.push(message.text());
  });
  page.on('pageerror', (error) => complaints.push(error.message));
  page.on('request', (request) => {
    if (!/^(file|about|data):/.test(request.url())) refused.push(request.url());
  });
  await page.goto(url);
  return page;
}

const pageColor = (page) => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
const isDark = async (page) => Math.max(...(await pageColor(page)).match(/\d+/g).slice(0, 3).map(Number)) < 100;
const openAll = (page) => page.evaluate(() => document.querySelectorAll('details').forEach((it) => { it.open = true; }));

// The elements that reach beyond the window and do not scroll within something that does.
const overflowing = (page) => page.evaluate(() => {
  const width = document.documentElement.clientWidth;
  const clips = (it) => getComputedStyle(it).overflowX !== 'visible';
  const isClipped = (it) => { for (let at = it.parentElement; at; at = at.parentElement) if (clips(at)) return true; return false; };
  const found = [...document.body.querySelectorAll('*')].filter((it) => {
    const box = it.getBoundingClientRect();
    return box.width > 0 && box.right > width + 1 && !isClipped(it) && !it.closest('svg > *');
  });
  return {
    scrolls: document.documentElement.scrollWidth - width,
    found: found.slice(0, 5).map((it) => `${it.tagName}.${it.getAttribute('class')} to ${it.getBoundingClientRect().right}`),
  };
});

// Words of charts that lie over each other or leave their chart, as far as boxes can tell.
const collisions = (page) => page.evaluate(() => {
  const found = [];
  for (const chart of document.querySelectorAll('svg[role=img]')) {
    const frame = chart.getBoundingClientRect();
    if (frame.width === 0) continue;
    const texts = [...chart.querySelectorAll('text')].map((it) => ({ said: it.textContent, box: it.getBoundingClientRect() }));
    const what = chart.querySelector('title').textContent;
    for (const [index, one] of texts.entries()) {
      if (one.box.left < frame.left - 1 || one.box.right > frame.right + 1 || one.box.bottom > frame.bottom + 1 || one.box.top < frame.top - 1) {
        found.push(`“${one.said}” leaves “${what}”`);
      }
      for (const other of texts.slice(0, index)) {
        const across = Math.min(one.box.right, other.box.right) - Math.max(one.box.left, other.box.left);
        const down = Math.min(one.box.bottom, other.box.bottom) - Math.max(one.box.top, other.box.top);
        if (across > 1 && down > 3) found.push(`“${one.said}” lies over “${other.said}” in “${what}”`);
      }
    }
  }
  return found;
});

for (const [name, viewport] of [['wide', WIDE], ['narrow', NARROW]]) {
  await check(`fits ${name}`, async () => {
    const page = await open(viewport);
    await openAll(page);
    const { scrolls, found } = await overflowing(page);
    assert.ok(scrolls <= 0, `the page scrolls sideways by ${scrolls} px: ${found.join('; ')}`);
    assert.deepEqual(found, []);
    const cramped = await collisions(page);
    assert.equal(cramped.length, 0, `${cramped.length} words, such as ${cramped.slice(0, 6).join('; ')}`);
    await page.context().close();
  });
}

await check('theme by keyboard', async () => {
  const page = await open(WIDE, { colorScheme: 'light' });
  assert.ok(!(await isDark(page)), 'dark although the system is light');
  await page.locator('#theme-auto').focus();
  await page.keyboard.press('ArrowRight');
  await page.keyboard.press('ArrowRight');
  assert.ok(await page.locator('#theme-dark').isChecked(), 'the arrows do not reach “dark”');
  assert.ok(await isDark(page), 'light although dark was chosen');
  await page.keyboard.press('ArrowLeft');
  assert.ok(!(await isDark(page)), 'dark although light was chosen');
  await page.context().close();
});

await check('theme of the system, without a script', async () => {
  const page = await open(WIDE, { colorScheme: 'dark', javaScriptEnabled: false });
  // Evaluating needs no script of the page's own.
  await page.locator('#theme-light').check();
  const picture = await page.screenshot({ clip: { x: 2, y: 2, width: 4, height: 4 } });
  await page.locator('#theme-auto').check();
  const other = await page.screenshot({ clip: { x: 2, y: 2, width: 4, height: 4 } });
  assert.ok(!picture.equals(other), 'light and the dark system look the same');
  await page.context().close();
});

await check('a group stands out by keyboard', async () => {
  const page = await open(WIDE);
  const lines = page.locator('main .s.g0').first();
  const others = page.locator('main .s:not(.g0):not(.base)').first();
  if ((await lines.count()) === 0 || (await others.count()) === 0) return page.context().close();
  await page.locator('#only-none').focus();
  await page.keyboard.press('ArrowRight');
  const opacity = (locator) => locator.evaluate((it) => getComputedStyle(it).opacity);
  assert.equal(await opacity(lines), '1');
  assert.ok(Number(await opacity(others)) < 0.3, 'the other groups stand out as well');
  await page.context().close();
});

await check('links open what they lead to', async () => {
  const page = await open(WIDE);
  const links = page.locator('a[href^="#cell-"]');
  if ((await links.count()) > 0) {
    const link = links.last();
    const target = (await link.getAttribute('href')).slice(1);
    await link.focus();
    await page.keyboard.press('Enter');
    await page.waitForFunction((id) => document.getElementById(id).open, target, { timeout: 5000 });
  }
  await page.context().close();
});

await check('pictures', async () => {
  // Parts of the page: all of a long one is more than some browsers can draw at once.
  const parts = ['summary', 'changes', 'cell-0', 'load', 'costs', 'grid', 'environment'];
  for (const [name, viewport, colorScheme] of [['light', WIDE, 'light'], ['dark', WIDE, 'dark'], ['narrow', NARROW, 'light']]) {
    const page = await open({ ...viewport, height: 1500 }, { colorScheme });
    const shoot = async (part) => {
      const path = join(directory, `${name}-${part}.png`);
      await page.screenshot({ path, timeout: 60_000 });
      assert.ok(statSync(path).size > 5_000, `${path} is nearly empty`);
    };
    await shoot('top');
    for (const part of parts) {
      const there = await page.evaluate((id) => {
        const it = document.getElementById(id);
        if (it) { document.documentElement.style.scrollBehavior = 'auto'; it.scrollIntoView(); }
        return it !== null;
      }, part);
      if (there) await shoot(part);
    }
    await page.context().close();
  }
});

await check('paper', async () => {
  const page = await open(WIDE, { colorScheme: 'dark' });
  await page.emulateMedia({ media: 'print' });
  assert.ok(!(await isDark(page)), 'dark on paper');
  const hidden = await page.evaluate(() => [...document.querySelectorAll('details.cell')].filter((it) => it.lastElementChild.getBoundingClientRect().height === 0).length);
  assert.equal(hidden, 0, 'cells are closed on paper');
  const path = join(directory, 'print.pdf');
  await page.pdf({ path, preferCSSPageSize: true, printBackground: true });
  assert.ok(statSync(path).size > 10_000, `${path} is nearly empty`);
  await page.context().close();
});

await check('no request', () => assert.deepEqual(refused, []));
await check('no complaint', () => assert.deepEqual(complaints, []));

await browser.close();
process.exit(failed === 0 ? 0 : 1);
