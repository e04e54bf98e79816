// A shift, by mouse: sign in, filter, read the evidence, triage, suppress with
// a preview, take back, close many, open the campaign, try a change and apply it.
import { readFileSync } from "node:fs";
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

/** tabTo presses Tab until what has the focus has a name like that. */
export async function tabTo(page, name, key = "Tab", most = 80) {
  for (let i = 0; i < most; i++) {
    const at = await page.evaluate(() => {
      const e = document.activeElement;
      return e ? `${e.getAttribute("aria-label") ?? ""}|${e.textContent?.trim() ?? ""}|${e.getAttribute("role") ?? ""}|${e.tagName}` : "";
    });
    if (i > 0 && name.test(at)) return;
    await page.keyboard.press(key);
  }
  throw new Error(`${key} never comes to ${name}`);
}

/** short is a text as pages show it: tokens of accounts are cut. */
const short = (s) => s.replace(/u_[A-Za-z0-9_-]{20,}/g, (t) => (t.length > 24 ? t.slice(0, 14) + "…" + t.slice(-6) : t));

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
  assert((await page.locator(".reason").textContent()) === short(alert.reason), "the reason is there, word for word");
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

/** tune turns a detector's knob, reads what it would change, and applies it; meanwhile somebody else applies another configuration. */
async function tune(page, base, expected) {
  await page.goto(base + "/detectors?name=scrape.crawl");
  await page.getByText("shadow: finds and keeps cases").click();
  await audit(page, "detector");
  await page.getByRole("button", { name: "Try shadow on what is stored" }).click();
  await page.waitForURL("**/tuning");
  await page.locator(".diff .new", { hasText: "scrape.crawl: {mode: shadow}" }).waitFor();
  await page.locator(".values", { hasText: "detect.scrape.crawl.mode" }).waitFor();
  assert((await page.locator(".values li").count()) === 1, "nothing but the mode differs");
  await page.getByRole("button", { name: "Try on what is stored" }).click();
  await page.getByText("What would change").waitFor({ timeout: 120_000 });
  await audit(page, "backtest");
  await page.screenshot({ path: `${shots}/shift-backtest.png`, fullPage: true });
  const was = await api(page, "/api/v1/config");
  const theirs = await api(page, "/api/v1/config/apply", "POST", { yaml: was.yaml + "# theirs\n", if_hash: was.hash });
  assert(theirs.config?.yaml.includes("# theirs"), `another configuration is applied: ${JSON.stringify(theirs)}`);
  expected.push(/409/);
  await page.getByRole("button", { name: "Apply …" }).click();
  await page.getByRole("button", { name: "Apply", exact: true }).click();
  await page.getByText("Somebody applied another configuration while you wrote").waitFor();
  assert((await api(page, "/api/v1/config")).yaml.includes("# theirs"), "theirs is in force");
  await page.getByRole("button", { name: "Begin anew from theirs" }).click();
  await page.goto(base + "/tuning?set=scrape.crawl:shadow");
  await page.locator(".diff .new", { hasText: "scrape.crawl: {mode: shadow}" }).waitFor();
  await page.getByRole("button", { name: "Try on what is stored" }).click();
  await page.getByText("What would change").waitFor({ timeout: 120_000 });
  await page.getByRole("button", { name: "Apply …" }).click();
  await page.getByRole("button", { name: "Apply", exact: true }).click();
  await toast(page, "Applied").waitFor();
  const now = await api(page, "/api/v1/config");
  assert(now.yaml.includes("scrape.crawl: {mode: shadow}") && now.yaml.includes("# theirs"), "both changes are in force");
}

/** explain asks why a client did not fire, and which requests carry an alert. */
async function explain(page, base, id) {
  await page.goto(base + "/explain");
  await page.getByLabel("Client", { exact: true }).fill("192.0.2.254");
  await page.getByRole("button", { name: "Explain" }).click();
  await page.getByText("weir has no request of it").waitFor({ timeout: 60_000 });
  await page.goto(`${base}/alerts/${id}`);
  await page.getByRole("button", { name: "Find all that carry evidence" }).click();
  await page.getByText("without these requests the alert does not fire").waitFor({ timeout: 120_000 });
  assert((await page.locator(".requests tbody tr").count()) > 3, "they are listed");
  await audit(page, "evidence");
  await page.screenshot({ path: `${shots}/shift-evidence.png` });
}

/** tokens: one is made, shown once, works, is revoked, and works no more. */
async function tokens(page, base) {
  await page.goto(base + "/tokens");
  await page.getByRole("button", { name: "New token" }).click();
  await page.getByLabel("Name", { exact: true }).fill("siem");
  await audit(page, "new token");
  await page.getByRole("button", { name: "Make the token" }).click();
  const secret = (await page.getByLabel("The token", { exact: true }).textContent()).trim();
  assert(/^weir_/.test(secret), "the token is shown");
  await page.getByRole("button", { name: "I have it" }).click();
  const status = () => page.context().request.get(base + "/api/v1/feed/alerts?limit=1", { headers: { Authorization: `Bearer ${secret}` } }).then((r) => r.status());
  assert((await status()) === 200, "it works");
  await page.getByRole("button", { name: "Revoke siem" }).click();
  await page.getByRole("button", { name: "Revoke it" }).click();
  await toast(page, "was revoked").waitFor();
  assert((await status()) === 401, "it works no more");
  await page.getByRole("button", { name: "Also 1 that ended" }).click();
  await page.getByText("revoked", { exact: true }).waitFor();
  assert(!(await page.content()).includes(secret), "its text is nowhere");
}

/** views: filters under a name, and as a file. */
async function views(page, base) {
  await page.goto(base + "/alerts?severity=critical&sort=score");
  await page.locator(".rows .row").first().waitFor();
  await page.getByRole("button", { name: "Save view" }).click();
  await page.getByLabel("Name of the view").fill("Worst first");
  await page.getByRole("dialog").getByRole("button", { name: "Save view" }).click();
  await page.goto(base + "/alerts");
  await page.getByRole("link", { name: "Worst first" }).click();
  await eventually(() => page.url().endsWith("/alerts?severity=critical&sort=score"), "the view is in the address");
  const count = await eventually(async () => Number((await page.locator(".count").textContent()).replace(/\D/g, "")), "the list is counted");
  await page.getByRole("button", { name: "Export" }).click();
  await audit(page, "export");
  const [file] = await Promise.all([page.waitForEvent("download"), page.getByRole("link", { name: "Export" }).click()]);
  const text = readFileSync(await file.path(), "utf8").trim().split("\r\n");
  assert(text[0].startsWith("id,revision,") && text.length === count + 1, `the file has the ${count} alerts and a head: ${text.length} lines`);
  await page.getByRole("button", { name: "Remove this view" }).click();
  await page.getByRole("link", { name: "Worst first" }).waitFor({ state: "detached" });
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
  await views(page, server.base);
  await tokens(page, server.base);
  await explain(page, server.base, id);
  await tune(page, server.base, expected);
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.waitForURL("**/sign-in");
  await page.getByLabel("User").waitFor();
  await audit(page, "sign-in");
  await page.screenshot({ path: `${shots}/shift-sign-in.png` });
  await context.close();
  await other.context.close();
  if (complaints.length) throw new Error(complaints.join("\n"));
}
