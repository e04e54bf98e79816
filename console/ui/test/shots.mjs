// Screenshots of all pages at both widths, dark and light, with axe-core on each:
// node test/shots.mjs BASE USER PASSWORD
import { audit, launch, open, shots } from "./browser.mjs";

export async function pagesOf(page, base) {
  const ask = (path) => page.evaluate((p) => fetch(p).then((r) => (r.ok ? r.json() : null)), path);
  const alerts = (await ask("/api/v1/alerts?limit=50"))?.data ?? [];
  const high = alerts.find((a) => a.severity === "high") ?? alerts[0];
  const campaigns = (await ask("/api/v1/campaigns"))?.data ?? [];
  const list = [
    ["alerts", "/alerts?triage=any&suppressed=any"],
    ["groups", "/alerts?triage=any&group=detector"],
    ["campaigns", "/campaigns"],
    ["endpoints", "/endpoints"],
    ["detectors", "/detectors?name=enum.object"],
    ["shadow", "/shadow"],
    ["explain", "/explain"],
    ["nothing-found", "/alerts?q=nothing+of+this+kind"],
    ["tokens", "/tokens?state=all"],
    ["no-page", "/no-such-page"],
    ["suppressions", "/suppressions?state=all"],
    ["tuning", "/tuning"],
    ["system", "/system"],
    ["users", "/users"],
    ["audit", "/audit"],
  ];
  if (high) {
    list.push(["alert", `/alerts/${high.id}`], ["principal", `/principals/${high.principal.kind}/${encodeURIComponent(high.principal.value)}`]);
    if (high.endpoint.template) list.push(["endpoint", `/endpoints/one?${new URLSearchParams(high.endpoint)}`]);
  }
  if (high) list.push(["explained", `/explain?client=${encodeURIComponent(`${high.principal.kind}:${high.principal.value}`)}`, ".explained"]);
  if (campaigns[0]) list.push(["campaign", `/campaigns/${campaigns[0].id}`]);
  return list;
}

export async function signIn(page, base, user, password) {
  await page.goto(base + "/sign-in");
  await page.getByLabel("User").fill(user);
  await page.getByLabel("Password").fill(password);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.waitForURL("**/alerts");
}

export async function takeShots(browser, base, user, password) {
  const failures = [];
  for (const [width, height] of [[1440, 900], [390, 844]]) {
    for (const colorScheme of ["light", "dark"]) {
      const { page, context, complaints } = await open(browser, { viewport: { width, height }, colorScheme });
      await page.goto(base + "/sign-in");
      await page.getByLabel("User").waitFor();
      await page.screenshot({ path: `${shots}/sign-in-${width}-${colorScheme}.png` });
      await audit(page, `sign-in ${width} ${colorScheme}`).catch((e) => failures.push(e.message));
      await signIn(page, base, user, password);
      for (const [name, path, there] of await pagesOf(page, base)) {
        await page.goto(base + path);
        await page.waitForLoadState("networkidle", { timeout: 1500 }).catch(() => undefined);
        if (there) await page.locator(there).waitFor({ timeout: 60_000 });
        await page.waitForTimeout(350);
        await page.screenshot({ path: `${shots}/${name}-${width}-${colorScheme}.png` });
        const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        if (wide > 0) failures.push(`${name} is ${wide} px wider than ${width}`);
        await audit(page, `${name} ${width} ${colorScheme}`).catch((e) => failures.push(e.message));
      }
      failures.push(...complaints);
      await context.close();
    }
  }
  if (failures.length) throw new Error(failures.join("\n"));
}

if (process.argv[1] === new URL(import.meta.url).pathname) {
  const browser = await launch();
  try {
    await takeShots(browser, ...process.argv.slice(2, 5));
  } finally {
    await browser.close();
  }
}
