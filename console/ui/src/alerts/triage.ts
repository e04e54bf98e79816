// What people do with alerts. Every action names the revision it was made to, so
// that nobody overwrites what a colleague did meanwhile, and can be taken back.
import type { QueryClient } from "@tanstack/react-query";
import { ask, Problem } from "../api/client";
import type { Alert, AnyTriage, BulkOutcome, Triage, TriageChange } from "../api/types";
import { plural } from "../lib/format";
import { toast, toastProblem } from "../lib/toast";
import { lastList, type AlertList } from "./list";

export interface Target {
  id: string;
  triage: { revision: number; status: Triage["status"]; assignee: string; verdict: Triage["verdict"]; tags: string[] };
}

type State = Target["triage"];

/** back is the change that leads from what is now to what was. */
export function back(now: State, was: Omit<State, "revision">): TriageChange {
  const change: TriageChange = {};
  if (now.status !== was.status) change.status = was.status;
  if (now.verdict !== was.verdict && was.status === "closed") {
    change.verdict = was.verdict;
    change.status = was.status;
  }
  if (now.assignee !== was.assignee) change.assignee = was.assignee;
  const add = was.tags.filter((t) => !now.tags.includes(t));
  const remove = now.tags.filter((t) => !was.tags.includes(t));
  if (add.length) change.add_tags = add;
  if (remove.length) change.remove_tags = remove;
  return change;
}

interface Context {
  client: QueryClient;
  list?: AlertList | null;
  onProposal?: (id: string) => void; // weir proposes a suppression after a verdict
  onConflict: (target: Target, change: TriageChange, stored: AnyTriage | null) => void;
}

// What this page changed itself, and from which revision on: a second action that
// was begun before the first one came back is no conflict.
const own = new Map<string, { from: number; triage: State }>();
const running = new Map<string, Promise<unknown>>();

function note(id: string, from: number, triage: State) {
  const before = own.get(id);
  own.set(id, { from: before?.triage.revision === from ? before.from : from, triage });
}

/** current is target as this page left it, when nobody else was in between. */
function current(target: Target): Target {
  const o = own.get(target.id);
  if (!o || target.triage.revision < o.from || target.triage.revision >= o.triage.revision) return target;
  return { id: target.id, triage: o.triage };
}

function told(ctx: Context, list: { id: string; triage: AnyTriage }[]) {
  (ctx.list ?? lastList())?.onTriages(list);
  const ids = new Set(list.map((t) => t.id));
  for (const { id, triage } of list) {
    const { comments, ...rest } = triage;
    const known = typeof comments === "number" ? rest : triage;
    ctx.client.setQueryData<{ data: Alert[] }>(["alert", id], (d) => d && { ...d, data: d.data.map((a) => ({ ...a, envelope: { ...a.envelope, triage: { ...a.envelope.triage, ...known } } })) });
  }
  void ctx.client.invalidateQueries({ predicate: (q) => (q.queryKey[0] === "alert" || q.queryKey[0] === "audit-of") && ids.has(String(q.queryKey[1])) });
}

/** changeOne makes a change to one alert; revision null makes it whatever was there. */
export async function changeOne(ctx: Context, seen: Target, change: TriageChange, done: string, options: { force?: boolean; undoable?: boolean } = {}) {
  await running.get(seen.id)?.catch(() => undefined);
  const target = current(seen);
  const asked = ask<{ id: string; triage: Triage; proposed_suppression?: unknown }>(`/api/v1/alerts/${target.id}`, {
    method: "PATCH",
    body: change,
    ifMatch: options.force ? undefined : target.triage.revision,
  });
  running.set(target.id, asked);
  try {
    const answer = await asked;
    note(target.id, target.triage.revision, answer.triage);
    told(ctx, [{ id: target.id, triage: answer.triage }]);
    const reverse = back(answer.triage, target.triage);
    const undoable = (options.undoable ?? true) && Object.keys(reverse).length > 0;
    toast(done, {
      then: answer.proposed_suppression && ctx.onProposal ? { text: "Suppress its like …", do: () => ctx.onProposal?.(target.id) } : undefined,
      undo: undoable ? () => void changeOne(ctx, { id: target.id, triage: answer.triage }, reverse, "Taken back.", { undoable: false }) : undefined,
    });
    return answer.triage;
  } catch (e) {
    if (e instanceof Problem && e.status === 409) ctx.onConflict(target, change, (e.body.triage as AnyTriage | undefined) ?? null);
    else toastProblem("Not changed", e);
    return null;
  } finally {
    if (running.get(target.id) === asked) running.delete(target.id);
  }
}

interface BulkAnswer {
  changed: number;
  data: BulkOutcome[];
}

function sayBulk(ctx: Context, answer: BulkAnswer, what: string, undoable: boolean) {
  for (const o of answer.data) if (o.outcome === "changed" && o.triage) note(o.id, o.triage.revision - 1, o.triage);
  told(ctx, answer.data.flatMap((o) => (o.triage ? [{ id: o.id, triage: o.triage }] : [])));
  const stale = answer.data.filter((o) => o.outcome === "stale").length;
  const bad = answer.data.filter((o) => o.outcome === "invalid" || o.outcome === "not_found");
  let text = `${plural(answer.changed, "alert")} ${what}.`;
  if (stale) text += ` ${plural(stale, "was", "were")} changed by somebody else meanwhile and left as ${stale === 1 ? "it is" : "they are"}.`;
  if (bad.length) text += ` ${plural(bad.length, "was", "were")} refused: ${bad[0]?.detail || bad[0]?.outcome}.`;
  const items = answer.data.flatMap((o) => {
    if (o.outcome !== "changed" || !o.triage || !o.before) return [];
    const change = back(o.triage, o.before);
    return Object.keys(change).length ? [{ id: o.id, revision: o.triage.revision, change }] : [];
  });
  toast(text, {
    tone: bad.length ? "bad" : "plain",
    undo: undoable && items.length ? () => void bulk(ctx, { items }, "taken back", false) : undefined,
  });
}

async function bulk(ctx: Context, body: unknown, what: string, undoable: boolean): Promise<BulkAnswer | null> {
  try {
    const answer = await ask<BulkAnswer>("/api/v1/alerts/bulk", { method: "POST", body });
    sayBulk(ctx, answer, what, undoable);
    return answer;
  } catch (e) {
    if (e instanceof Problem && e.status === 409 && typeof e.body.count === "number") {
      toast(`Nothing was changed: the filter selects ${plural(e.body.count, "alert")} now. Look again and repeat.`, { tone: "bad" });
    } else toastProblem("Nothing was changed", e);
    return null;
  }
}

/** changeMany makes one change to alerts that are loaded, each at its revision. */
export function changeMany(ctx: Context, targets: Target[], change: TriageChange, what: string) {
  return bulk(ctx, { items: targets.map((t) => ({ id: t.id, revision: current(t).triage.revision, change })) }, what, true);
}

/** changeFiltered makes one change to all that a filter selects, when they still are as many as were shown. */
export function changeFiltered(ctx: Context, filter: Record<string, string>, count: number, change: TriageChange, what: string) {
  return bulk(ctx, { filter, count, change }, what, true);
}
