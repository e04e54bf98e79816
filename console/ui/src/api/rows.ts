// Rows of the list, also from a weir that only tells whole alerts.
import { ask, Problem } from "./client";
import type { Alert, Row, RowPage, Triage } from "./types";

let whole = false;
/** tellsRows is false when this weir was seen to tell whole alerts alone. */
export const tellsRows = () => !whole;

function rowOf(a: Alert, seq: number): Row {
  const t = a.envelope.triage as Partial<Triage> & { backfill?: boolean };
  return {
    id: a.id, seq, revision: a.revision, status: a.status, severity: a.severity, tier: a.tier, detector: a.detector, title: a.title, reason: a.reason, level: a.level,
    principal: a.principal, endpoint: a.endpoint, campaign: a.campaign, first: a.window.first, last: a.window.last, detected_at: a.window.detected_at, ongoing: a.ongoing,
    score: a.score.nats, requests: a.outcome.requests, succeeded: a.outcome.succeeded, accounts: a.outcome.accounts, objects: a.outcome.objects, addresses_total: a.addresses_total,
    members_total: a.members_total, network: a.context.network, country: a.context.country, labels: a.labels, change: a.change, suppressed: false, backfill: t.backfill ?? false,
    triage: {
      revision: t.revision ?? 0, status: t.status ?? "new", assignee: t.assignee ?? "", verdict: t.verdict ?? "", tags: t.tags ?? [], comments: t.comments?.length ?? 0, time: t.time ?? null, who: t.who ?? "",
    },
  };
}

const known = ["since", "until", "severity", "detector", "principal", "status", "limit", "after", "before"];

async function fromWhole(query: Record<string, string>, signal?: AbortSignal): Promise<RowPage> {
  const q: Record<string, string> = { ...query };
  if (q.cursor) q.before = q.cursor;
  for (const name of Object.keys(q)) if (!known.includes(name)) delete q[name];
  const page = await ask<{ data: Alert[]; more: boolean; before: number | null; after: number | null }>("/api/v1/alerts", { query: q, signal });
  const words = (query.q ?? "").toLowerCase().split(/\s+/).filter(Boolean);
  const states = query.triage?.split(",");
  const data = page.data
    .map((a, i) => rowOf(a, (page.after ?? 0) - i))
    .filter((r) => !states || states.includes(r.triage.status))
    .filter((r) => !query.assignee || r.triage.assignee === (query.assignee === "-" ? "" : query.assignee))
    .filter((r) => !query.tier || r.tier === query.tier)
    .filter((r) => words.every((w) => `${r.title} ${r.reason} ${r.principal.value} ${r.triage.tags.join(" ")}`.toLowerCase().includes(w)));
  return { data, more: page.more, next: page.before === null ? null : String(page.before), total: page.more ? null : { count: data.length, exact: true } };
}

export async function askRows(query: Record<string, string>, signal?: AbortSignal): Promise<RowPage> {
  if (whole) return fromWhole(query, signal);
  try {
    return await ask<RowPage>("/api/v1/alerts", { query: { ...query, view: "row" }, signal });
  } catch (e) {
    if (!(e instanceof Problem && e.status === 400 && e.detail.includes("no parameter"))) throw e;
    whole = true;
    return fromWhole(query, signal);
  }
}
