// The period that a page is about, in the address.
import { Link, useSearch } from "../lib/router";

const periods = [
  { id: "1h", text: "1 h", seconds: 3600 },
  { id: "24h", text: "24 h", seconds: 86_400 },
  { id: "7d", text: "7 d", seconds: 604_800 },
];

/** usePeriod is what the API is asked for: nothing without a choice, for it knows what time it is in the logs. */
export function usePeriod(): { chosen: string; query: { since?: string; until?: string; step: string } } {
  const q = new URLSearchParams(useSearch());
  const chosen = q.get("period") ?? "";
  const p = periods.find((x) => x.id === chosen);
  const until = q.get("until") ?? undefined;
  const since = q.get("since") ?? undefined;
  if (since || until) return { chosen: "given", query: { since, until, step: "minute" } };
  if (!p) return { chosen: "", query: { step: "minute" } };
  const now = Math.floor(Date.now() / 60_000) * 60_000;
  return { chosen, query: { since: new Date(now - p.seconds * 1000).toISOString(), step: p.seconds > 86_400 ? "hour" : "minute" } };
}

export function PeriodPicker() {
  const { chosen } = usePeriod();
  const q = new URLSearchParams(useSearch());
  const to = (id: string) => {
    q.delete("since");
    q.delete("until");
    if (id) q.set("period", id);
    else q.delete("period");
    const text = q.toString();
    return location.pathname + (text ? "?" + text : "");
  };
  return (
    <nav className="views" aria-label="Period">
      <Link to={to("")} aria-current={chosen === "" ? "page" : undefined}>
        Latest
      </Link>
      {periods.map((p) => (
        <Link key={p.id} to={to(p.id)} aria-current={chosen === p.id ? "page" : undefined}>
          {p.text}
        </Link>
      ))}
    </nav>
  );
}
