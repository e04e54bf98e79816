// A list of very many alerts: scrolling from its beginning to its end, with what
// keeps the browser busy measured as it measures itself.
import { assert, eventually, open } from "./browser.mjs";
import { signIn } from "./shots.mjs";
import { password } from "./shift.mjs";

const most = 50; // ms that a task may take

export async function scroll(browser, server, { user = "ada", least }) {
  const { page, context, complaints } = await open(browser);
  await page.addInitScript(() => {
    window.__tasks = [];
    new PerformanceObserver((list) => window.__tasks.push(...list.getEntries().map((e) => ({ start: Math.round(e.startTime), ms: Math.round(e.duration) })))).observe({ entryTypes: ["longtask"] });
  });
  await signIn(page, server.base, user, password);
  await page.goto(server.base + "/alerts?triage=any&suppressed=any");
  await page.locator(".rows .row").nth(3).waitFor();
  await page.waitForTimeout(500);
  const atStart = await page.evaluate(() => window.__tasks.splice(0));
  const began = Date.now();
  // A reader who holds the wheel: a page of the list each frame, until no more comes.
  const result = await page.evaluate(async () => {
    const grid = document.querySelector(".grid");
    let still = 0;
    let frames = 0;
    let slowest = 0;
    let last = performance.now();
    while (still < 120) {
      const before = grid.scrollTop;
      grid.scrollTop = before + grid.clientHeight * 3;
      await new Promise(requestAnimationFrame);
      const now = performance.now();
      slowest = Math.max(slowest, now - last);
      last = now;
      frames++;
      still = grid.scrollTop === before ? still + 1 : 0;
      if (frames > 200_000) break;
    }
    const last_ = [...document.querySelectorAll(".rows .row")].at(-1);
    return { frames, slowest: Math.round(slowest), rows: Number(last_?.getAttribute("aria-rowindex") ?? 0) - 1 };
  });
  const loaded = Date.now() - began;
  const whileLoading = await page.evaluate(() => window.__tasks.splice(0));
  assert(result.rows >= least, `${result.rows} rows at the end, at least ${least}`);
  // Now that all is loaded: jumps, steps and keys.
  await page.evaluate(async () => {
    const grid = document.querySelector(".grid");
    const frame = () => new Promise(requestAnimationFrame);
    for (let i = 0; i < 200; i++) {
      grid.scrollTop = (grid.scrollHeight * ((i * 37) % 200)) / 200;
      await frame();
    }
    grid.scrollTop = 0;
    for (let i = 0; i < 600; i++) {
      grid.scrollTop += 120;
      await frame();
    }
  });
  await page.locator(".grid").focus();
  for (let i = 0; i < 30; i++) await page.keyboard.press("PageDown");
  await page.keyboard.press("End");
  await eventually(async () => Number(await page.locator(".rows .row.cursor").getAttribute("aria-rowindex")) - 1 >= least, "End goes to the last one");
  const whole = await page.evaluate(() => window.__tasks.splice(0));
  const worst = (l) => Math.max(0, ...l.map((t) => t.ms));
  console.log(`  ${result.rows} rows loaded by scrolling in ${(loaded / 1000).toFixed(1)} s, ${result.frames} frames, the slowest ${result.slowest} ms`);
  console.log(`  tasks over 50 ms: at the start ${atStart.length} (${worst(atStart)} ms), while loading ${whileLoading.length} (${worst(whileLoading)} ms), scrolling all of it ${whole.length} (${worst(whole)} ms)`);
  assert(worst(whileLoading) <= most && worst(whole) <= most, `no task over ${most} ms while scrolling: ${JSON.stringify([...whileLoading, ...whole].slice(0, 10))}`);
  await context.close();
  if (complaints.length) throw new Error(complaints.join("\n"));
}
