// The list's filters: the address's query, and what the API is asked for it.

export const listParams = ["severity", "detector", "triage", "assignee", "verdict", "tag", "label"] as const;
export const oneParams = ["status", "tier", "principal", "address", "endpoint", "campaign", "q", "since", "until", "suppressed", "backfill"] as const;

export type Param = (typeof listParams)[number] | (typeof oneParams)[number] | "sort" | "group";

/** work is what the list shows without a word about triage: what is not closed. */
export const work = "new,in_progress";

export const periods: { id: string; text: string; seconds: number }[] = [
  { id: "1h", text: "last hour", seconds: 3600 },
  { id: "24h", text: "last 24 hours", seconds: 86_400 },
  { id: "7d", text: "last 7 days", seconds: 7 * 86_400 },
  { id: "30d", text: "last 30 days", seconds: 30 * 86_400 },
];

/** apiQuery is what the API is asked for a query of the page; a period counts from now. */
export function apiQuery(search: string, now: number): Record<string, string> {
  const q = new URLSearchParams(search);
  const out: Record<string, string> = {};
  for (const name of [...listParams, ...oneParams]) {
    const v = q.get(name);
    if (v) out[name] = v;
  }
  out.triage ??= work;
  if (out.triage === "any") delete out.triage;
  out.suppressed ??= "false";
  if (out.suppressed === "any") delete out.suppressed;
  const period = periods.find((p) => p.id === out.since);
  if (period) out.since = new Date(now - period.seconds * 1000).toISOString();
  const sort = q.get("sort");
  if (sort && sort !== "newest") out.sort = sort;
  return out;
}

export const split = (v: string | null): string[] => (v ? v.split(",") : []);

/** views are filters that most shifts begin with. */
export const views: { name: string; search: string }[] = [
  { name: "Open", search: "" },
  { name: "Paging", search: "?tier=page" },
  { name: "Unassigned", search: "?assignee=-" },
  { name: "Closed", search: "?triage=closed" },
  { name: "All", search: "?triage=any&suppressed=any" },
];

/** exportQuery is what a file of the list is asked for: its filters, without its order. */
export function exportQuery(search: string, now: number): Record<string, string> {
  const q = apiQuery(search, now);
  delete q.sort;
  return q;
}
