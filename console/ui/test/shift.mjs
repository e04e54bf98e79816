// A shift, by mouse: sign in, filter, read the evidence, triage, suppress with
// a preview, take back, close many, open the campaign, try a change and apply it.
import { assert, audit, eventually, open, shots } from "./browser.mjs";

export const password = "correct horse battery";

/** api asks as the page would, with its session. */
export const api = (page, path, method = "GET", body = null) =>
  page.evaluate(
    async ([path, method, body]) => {
      const s = await (await fetch("/api/v1/session")).json();
      const r = await fetch(path, { method, headers: { "Content-Type": "application/json", "X-CSRF-Token": s.session?.csrf ?? "" }, body: body && JSON.stringify(body) });
      return r.status === 204 ? null : r.json();
    },
    [path, method, body],
  );

export const toast = (page, text) => page.locator(".toast", { hasText: text });

export async function first(page, server) {
  const links = [...server.printed().matchAll(/http:\/\/\S+\/first(#\S+)/g)];
  assert(links.length, "weir printed a link for the first administrator:\n" + server.printed());
  await page.goto(`${server.base}/first${links.at(-1)[1]}`);
  await page.getByLabel("User").fill("ada");
  assert(!page.url().includes("#"), "the token is gone from the address");
  await audit(page, "first");
  await page.getByLabel("Password").fill(password);
  await page.getByRole("button", { name: "Make the account" }).click();
  await page.waitForURL("**/alerts");
}

async function newUser(page, base, name) {
  await page.goto(base + "/users");
  await page.getByRole("button", { name: "New user" }).click();
  await page.getByLabel("Name", { exact: true }).fill(name);
  await page.getByLabel("Password").fill(password);
  await page.getByRole("button", { name: "Make the account" }).click();
  await toast(page, "may sign in").waitFor();
}

async function filter(page, base) {
  await page.goto(base + "/alerts");
  await page.locator(".rows .row").first().waitFor();
  await page.getByRole("button", { name: /^Severity/ }).click();
  await page.getByRole("menuitemcheckbox", { name: "critical" }).click();
  await page.getByRole("menuitemcheckbox", { name: "high" }).click();
  await page.keyboard.press("Escape");
  await eventually(() => new URL(page.url()).searchParams.get("severity") === "critical,high", "the filter is in the address");
  await eventually(async () => {
    const seen = await page.locator(".rows .row .c-sev").allTextContents();
    return seen.length > 0 && seen.every((s) => s === "high" || s === "critical");
  }, "only high and critical ones are shown");
  await audit(page, "list");
  await page.screenshot({ path: `${shots}/shift-filter.png` });
  await page.getByLabel("Search alerts").fill("object ids walked");
  await eventually(() => new URL(page.url()).searchParams.get("q") === "object ids walked", "the search is in the address");
  await eventually(async () => {
    const seen = await page.locator(".rows .row .title").allTextContents();
    return seen.length > 0 && seen.every((s) => /object ids walked/i.test(s));
  }, "the search finds");
}

async function read(page) {
  const title = await page.locator(".rows .row .title").first().textContent();
  await page.locator(".rows .row .title").first().click();
  await page.waitForURL("**/alerts/*");
  const id = new URL(page.url()).pathname.split("/").at(-1);
  await page.getByRole("heading", { level: 1, name: title }).waitFor();
  const alert = (await api(page, `/api/v1/alerts/${id}`)).data.at(-1);
  assert((await page.locator(".reason").textContent()) === alert.reason, "the reason is there, word for word");
  assert((await page.locator(".signals tbody tr").count()) === alert.signals.length, "every signal is there");
  const nats = (await page.locator(".signals tbody td:last-child").allTextContents()).reduce((sum, t) => sum + Number(t.replace("−", "-")), 0);
  assert(Math.abs(nats - alert.score.nats) < 0.06 * alert.signals.length, `the signals' nats (${nats}) sum to the score (${alert.score.nats})`);
  await page.locator(".timeline canvas").waitFor();
  for (const b of alert.benign_if) await page.getByText(b).first().waitFor();
  await audit(page, "alert");
  await page.screenshot({ path: `${shots}/shift-alert.png`, fullPage: true });
  return id;
}

async function triage(page, id) {
  const state = async () => (await api(page, `/api/v1/alerts/${id}`)).data.at(-1).envelope.triage;
  await page.getByRole("button", { name: "Assign to me" }).click();
  await toast(page, "Assigned to ada.").waitFor();
  await page.locator(".triage-bar", { hasText: "assigned to ada" }).waitFor();
  await page.getByRole("button", { name: "Undo" }).click();
  await page.locator(".triage-bar", { hasText: "nobody has it" }).waitFor();
  await page.getByRole("button", { name: "In progress" }).click();
  await page.locator(".triage-bar .triage-in_progress").waitFor();
  await page.getByRole("button", { name: "Comment" }).click();
  await audit(page, "comment dialog");
  await page.getByRole("textbox", { name: "Comment" }).fill("Asked the partner whether this is theirs.");
  await page.getByRole("button", { name: "Add comment" }).click();
  await page.locator(".activity blockquote", { hasText: "Asked the partner" }).waitFor();
  await page.getByRole("button", { name: "Tag" }).click();
  await page.getByRole("textbox", { name: "New tags" }).fill("partner case-4711");
  await page.getByRole("button", { name: "Save tags" }).click();
  await page.locator(".triage-bar .tag", { hasText: "case-4711" }).waitFor();
  const t = await state();
  assert(t.status === "in_progress" && t.assignee === "ada" && t.tags.join() === "case-4711,partner" && t.comments.length === 1, `the API has it: ${JSON.stringify(t)}`);
}

async function suppress(page) {
  await page.getByRole("button", { name: "Suppress" }).click();
  await page.locator(".preview", { hasText: "would have hidden" }).waitFor();
  await audit(page, "suppress dialog");
  await page.screenshot({ path: `${shots}/shift-suppress.png` });
  await page.getByRole("textbox", { name: "Why" }).fill("their exporter, until Monday");
  await page.getByRole("button", { name: "Suppress", exact: true }).click();
  await toast(page, "Suppressed for 1 day").waitFor();
  const made = (await api(page, "/api/v1/suppressions")).data;
  assert(made.length === 1 && made[0].state === "active" && made[0].reason === "their exporter, until Monday", "the suppression is there");
  await toast(page, "Suppressed for 1 day").getByRole("button", { name: "Undo" }).click();
  await toast(page, "has ended").waitFor();
  assert((await api(page, "/api/v1/suppressions")).data[0].state === "ended", "the suppression has ended");
}

async function close(page, id) {
  await page.getByRole("button", { name: "Close …" }).click();
  await audit(page, "close dialog");
  await page.getByText("A real attack").click();
  await page.getByRole("textbox", { name: "Comment" }).fill("Confirmed with the shop.");
  await page.getByRole("button", { name: "Close alert" }).click();
  await page.locator(".triage-bar", { hasText: "closed: attack" }).waitFor();
  await toast(page, "Closed as attack").getByRole("button", { name: "Undo" }).click();
  await page.locator(".triage-bar .triage-in_progress").waitFor();
  const t = (await api(page, `/api/v1/alerts/${id}`)).data.at(-1).envelope.triage;
  assert(t.status === "in_progress" && t.verdict === "", "taken back, without a verdict");
}

/** conflict: bob changes the alert while ada decides. */
async function conflict(page, bob, id, expected) {
  expected.push(/409/);
  await page.getByRole("button", { name: "Close …" }).click();
  await page.getByText("A real attack").click();
  const his = await api(bob, `/api/v1/alerts/${id}`, "PATCH", { assignee: "bob" });
  assert(his.triage?.assignee === "bob", `bob's change is stored: ${JSON.stringify(his)}`);
  await page.getByRole("button", { name: "Close alert" }).click();
  const dialog = page.getByRole("dialog", { name: "Somebody was faster" });
  await dialog.waitFor();
  await dialog.getByText("bob").first().waitFor();
  await audit(page, "conflict");
  await page.screenshot({ path: `${shots}/shift-conflict.png` });
  await dialog.getByRole("button", { name: "Keep theirs" }).click();
  let t = (await api(page, `/api/v1/alerts/${id}`)).data.at(-1).envelope.triage;
  assert(t.assignee === "bob" && t.status === "in_progress", "nothing was overwritten");
  await page.locator(".triage-bar", { hasText: "assigned to bob" }).waitFor();
  await page.getByRole("button", { name: "Close …" }).click();
  await page.getByText("A real attack").click();
  await page.getByRole("button", { name: "Close alert" }).click();
  await page.locator(".triage-bar", { hasText: "closed: attack" }).waitFor();
  t = (await api(page, `/api/v1/alerts/${id}`)).data.at(-1).envelope.triage;
  assert(t.assignee === "bob" && t.verdict === "true_positive", "the second try took");
}

async function bulk(page, base, least) {
  await page.goto(base + "/alerts?severity=medium");
  await page.locator(".rows .row").nth(3).waitFor();
  const count = Number((await page.locator(".count").textContent()).replace(/\D/g, ""));
  assert(count >= least, `${count} alerts of medium severity, at least ${least}`);
  await page.locator(".rows .row [role=checkbox]").nth(0).click();
  await page.locator(".rows .row [role=checkbox]").nth(2).click({ modifiers: ["Shift"] });
  await page.getByText("3 selected").waitFor();
  await page.getByRole("button", { name: /^Select all/ }).click();
  await page.getByText("that match").waitFor();
  await page.screenshot({ path: `${shots}/shift-bulk.png` });
  await page.getByRole("button", { name: "Close …" }).click();
  await page.getByText("A test of detection itself").click();
  const began = Date.now();
  await page.getByRole("button", { name: `Close ${count} alerts` }).click();
  await toast(page, "closed as test").waitFor({ timeout: 30_000 });
  console.log(`  ${count} alerts closed in ${Date.now() - began} ms`);
  assert((await toast(page, "closed as test").textContent()).includes(count.toLocaleString("en")), "all of them");
  const closed = await api(page, "/api/v1/alerts?severity=medium&triage=closed&verdict=test&view=row&limit=1");
  assert(closed.total.count === count, `${closed.total.count} of ${count} are closed`);
  await toast(page, "closed as test").getByRole("button", { name: "Undo" }).click();
  await toast(page, "taken back").waitFor({ timeout: 30_000 });
  const left = await api(page, "/api/v1/alerts?severity=medium&triage=closed&view=row&limit=1");
  assert(left.total.count === 0, "all are back");
}

async function campaign(page, base) {
  await page.goto(base + "/campaigns");
  await page.locator(".group.campaign a").first().click();
  await page.waitForURL("**/campaigns/*");
  await page.locator(".gantt li").first().waitFor();
  await audit(page, "campaign");
  await page.screenshot({ path: `${shots}/shift-campaign.png`, fullPage: true });
  await page.locator(".lines a").first().click();
  await page.waitForURL("**/alerts/*");
  await page.locator(".reason").waitFor();
}

/** live: what changes is shown in its place, and what is new waits. */
async function live(page, base, bob) {
  await page.goto(base + "/alerts");
  await page.locator(".live-live").waitFor();
  const row = page.locator(".rows .row").nth(1);
  await row.waitFor();
  const before = await page.locator(".rows .row .title").allTextContents();
  const id = (await row.getAttribute("id")).replace("row-", "");
  await api(bob, `/api/v1/alerts/${id}`, "PATCH", { assignee: "bob" });
  await row.locator(".c-triage", { hasText: "bob" }).waitFor();
  assert((await page.locator(".rows .row .title").allTextContents()).join() === before.join(), "the order is as it was");
}

async function reveal(page, base) {
  const list = (await api(page, "/api/v1/alerts?severity=critical,high&detector=auth.stuffing&limit=50")).data;
  const alert = list.find((a) => a.affected.accounts.some((x) => x.name.startsWith("u_")));
  assert(alert, "an alert with accounts");
  await page.goto(`${base}/alerts/${alert.id}`);
  await page.getByRole("button", { name: /^Show .*names? …/ }).click();
  await page.getByRole("textbox", { name: "Reason" }).fill("reset the passwords, case 4711");
  await page.getByRole("button", { name: "Show names" }).click();
  await page.locator(".opened").first().waitFor();
  await page.getByText("What was reached").scrollIntoViewIfNeeded();
  await page.screenshot({ path: `${shots}/shift-reveal.png` });
}

async function auditPage(page, base) {
  await page.goto(base + "/audit");
  await page.getByText("reset the passwords, case 4711").waitFor();
  await page.getByLabel("Search the audit").fill("their exporter");
  await page.getByText("their exporter, until Monday").first().waitFor();
  await audit(page, "audit");
}

/** tune tries a change of the configuration, reads what it would change, and applies it. */
async function tune(page, base) {
  await page.goto(base + "/tuning");
  const editor = page.getByLabel("Configuration as YAML").or(page.getByRole("textbox", { name: "Configuration" })).first();
  await editor.waitFor();
  const yaml = await editor.inputValue();
  await editor.fill(`${yaml.trimEnd()}\n${/^detect:/m.test(yaml) ? "" : "detect:\n  scrape.crawl: {mode: shadow}\n"}`);
  await page.locator(".diff .new").first().waitFor();
  await page.getByRole("button", { name: "Try on what is stored" }).click();
  await page.getByText("What would change").waitFor({ timeout: 120_000 });
  await audit(page, "backtest");
  await page.screenshot({ path: `${shots}/shift-backtest.png`, fullPage: true });
  await page.getByRole("button", { name: "Apply …" }).click();
  await page.getByRole("button", { name: "Apply", exact: true }).click();
  await toast(page, "Applied").waitFor();
  const now = await api(page, "/api/v1/config");
  assert(now.yaml.includes("scrape.crawl: {mode: shadow}"), "the change is in force");
}

export async function shift(browser, server, { many }) {
  const { page, context, complaints, expected } = await open(browser);
  await first(page, server);
  await newUser(page, server.base, "bob");
  const other = await open(browser);
  await other.page.goto(server.base + "/sign-in");
  const session = await api(other.page, "/api/v1/session", "POST", { user: "bob", password });
  assert(session.session?.user === "bob", `bob is signed in: ${JSON.stringify(session)}`);
  await filter(page, server.base);
  const id = await read(page);
  await triage(page, id);
  await suppress(page);
  await close(page, id);
  await conflict(page, other.page, id, expected);
  await live(page, server.base, other.page);
  await bulk(page, server.base, many);
  await campaign(page, server.base);
  await reveal(page, server.base);
  await auditPage(page, server.base);
  if (await api(page, "/api/v1/config").then((c) => c.yaml !== undefined)) await tune(page, server.base);
  else console.log("  no backtests in this weir: not tried");
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.waitForURL("**/sign-in");
  await audit(page, "sign-in");
  await page.screenshot({ path: `${shots}/shift-sign-in.png` });
  await context.close();
  await other.context.close();
  if (complaints.length) throw new Error(complaints.join("\n"));
}
