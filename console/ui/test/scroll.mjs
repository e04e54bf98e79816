// A list of very many alerts: scrolling from its beginning to its end, with what
// keeps the page's thread busy. Long tasks are counted as the browser counts them,
// by the clock; what is asserted is the processor's time of each task, which does
// not depend on what else the machine does.
import { assert, eventually, open } from "./browser.mjs";
import { password } from "./shift.mjs";
import { signIn } from "./shots.mjs";

const most = 50; // ms that a task may take

/** traced runs f and returns the longest tasks of the page's main thread, in ms of the processor. */
async function traced(browser, page, f) {
  await browser.startTracing(page, { categories: ["toplevel", "__metadata"] });
  const result = await f();
  const { traceEvents } = JSON.parse((await browser.stopTracing()).toString());
  const main = new Set(traceEvents.filter((e) => e.name === "thread_name" && e.args.name === "CrRendererMain").map((e) => `${e.pid}/${e.tid}`));
  const tasks = traceEvents.filter((e) => e.ph === "X" && main.has(`${e.pid}/${e.tid}`) && e.tdur !== undefined && /RunTask/.test(e.name)).map((e) => e.tdur / 1000);
  assert(tasks.length > 0, "the trace has the page's tasks");
  return { result, tasks };
}

export async function scroll(browser, server, { user = "ada", least }) {
  const { page, context, complaints } = await open(browser);
  await page.addInitScript(() => {
    window.__tasks = [];
    new PerformanceObserver((list) => window.__tasks.push(...list.getEntries().map((e) => Math.round(e.duration)))).observe({ entryTypes: ["longtask"] });
  });
  await signIn(page, server.base, user, password);
  await page.goto(server.base + "/alerts?triage=any&suppressed=any");
  await page.locator(".rows .row").nth(3).waitFor();
  const say = async (what, tasks) => {
    const wall = await page.evaluate(() => window.__tasks.splice(0));
    const worst = Math.max(...tasks);
    console.log(`  ${what}: ${tasks.length} tasks, the longest ${worst.toFixed(1)} ms of the processor, ${tasks.filter((t) => t > most).length} over ${most} ms; by the clock ${wall.length} over 50 ms, the longest ${Math.max(0, ...wall)} ms`);
    return worst;
  };
  // A reader who holds the wheel: some pages of the list each frame, until no more comes.
  const began = Date.now();
  let worst = 0;
  let loaded = 0;
  for (let done = false; !done; ) {
    const { result, tasks } = await traced(browser, page, () =>
      page.evaluate(async () => {
        const grid = document.querySelector(".grid");
        const frame = () => new Promise(requestAnimationFrame);
        let still = 0;
        for (let i = 0; i < 500 && still < 60; i++) {
          const before = grid.scrollTop;
          grid.scrollTop = before + grid.clientHeight * 8;
          await frame();
          still = grid.scrollTop === before ? still + 1 : 0;
        }
        const last = Math.max(...[...document.querySelectorAll(".rows .row")].map((r) => Number(r.getAttribute("aria-rowindex"))));
        return { rows: last - 1, still };
      }),
    );
    // Standing still at the end for a while may also be a slow answer.
    done = result.still >= 60 && result.rows === loaded;
    loaded = result.rows;
    worst = Math.max(worst, await say(`${loaded} rows`, tasks));
  }
  console.log(`  all loaded after ${((Date.now() - began) / 1000).toFixed(1)} s`);
  assert(loaded >= least, `${loaded} rows at the end, at least ${least}`);
  const { tasks } = await traced(browser, page, async () => {
    await page.evaluate(async () => {
      const grid = document.querySelector(".grid");
      const frame = () => new Promise(requestAnimationFrame);
      for (let i = 0; i < 200; i++) {
        grid.scrollTop = (grid.scrollHeight * ((i * 37) % 200)) / 200;
        await frame();
      }
      grid.scrollTop = 0;
      for (let i = 0; i < 400; i++) {
        grid.scrollTop += 120;
        await frame();
      }
    });
    await page.locator(".grid").focus();
    for (let i = 0; i < 20; i++) await page.keyboard.press("PageDown");
    await page.keyboard.press("End");
    await eventually(async () => Number(await page.locator(".rows .row.cursor").getAttribute("aria-rowindex")) - 1 >= least, "End goes to the last one");
  });
  worst = Math.max(worst, await say("jumps, steps and keys over all of it", tasks));
  assert(worst <= most, `no task over ${most} ms of the processor while scrolling; the longest took ${worst.toFixed(1)} ms`);
  await context.close();
  if (complaints.length) throw new Error(complaints.join("\n"));
}
