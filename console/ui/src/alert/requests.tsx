// The requests behind an alert: those that carry its evidence, those at its
// endpoint, and all in its window.
import { lazy, Suspense, useMemo, useState } from "react";
import { Button } from "react-aria-components";
import { usePart } from "../api/part";
import { useMay } from "../api/session";
import type { Alert, AlertRequest, ApiRequest, Explained, PrincipalPage } from "../api/types";
import { integer, plural } from "../lib/format";
import { Section } from "../ui/bits";
import { useExplanation, type Wanted, Working } from "../ui/explain";
import { RequestTable, type Shown } from "../ui/requests";
import type { Bars } from "../ui/timeline";

const Timeline = lazy(() => import("../ui/timeline"));

/** bucket counts requests by minute and class, for a weir that does not. */
function bucket(rows: ApiRequest[]): Omit<Bars, "mark"> | null {
  if (rows.length === 0) return null;
  const at = rows.map((r) => Math.floor(Date.parse(r.time) / 60_000));
  const start = Math.min(...at);
  const n = Math.max(...at) - start + 1;
  const names = ["2xx", "3xx", "4xx", "5xx", "other"];
  const layers = names.map(() => new Array<number>(n).fill(0));
  rows.forEach((r, i) => {
    const c = r.status === null ? 4 : Math.min(Math.max(Math.floor(r.status / 100) - 2, -1), 4);
    const layer = layers[c < 0 ? 4 : c];
    const k = (at[i] ?? start) - start;
    if (layer) layer[k] = (layer[k] ?? 0) + 1;
  });
  return { start: start * 60, step: 60, names, layers };
}

type View = "evidence" | "endpoint" | "all";

interface Page {
  data: AlertRequest[];
  more: boolean;
  evidence: { marked: number; at_endpoint: number };
}

/** traced are the requests that weir found to carry evidence; what the list knows of them goes along. */
function traced(found: NonNullable<Explained["alert"]>, known: AlertRequest[]): Shown[] {
  const by = new Map(known.map((r) => [r.source, r]));
  return found.events.map((e) => {
    const r = by.get(e.source);
    if (r) return { ...r, evidence: true, nats: e.nats };
    const [, method = "", path = e.request, status = ""] = /^(\S+) (.*) (\d+)$/.exec(e.request) ?? [];
    return { time: e.time, ip: e.address, method, path, status: status ? Number(status) : null, bytes: null, source: e.source, evidence: true, nats: e.nats };
  });
}

function useBars(a: Alert, may: boolean, ticks: string[]): Bars | null {
  const person = a.level !== "endpoint" && a.level !== "campaign" && a.level !== "cohort";
  const pad = 15 * 60_000;
  const since = new Date(Date.parse(a.window.first) - pad).toISOString();
  const until = new Date(Date.parse(a.window.last) + pad).toISOString();
  const span = Date.parse(until) - Date.parse(since);
  const series = usePart<PrincipalPage>(
    ["principal-of", a.id, since, until],
    `/api/v1/principals/${a.principal.kind}/${encodeURIComponent(a.principal.value)}`,
    { since, until, step: span > 12 * 3600_000 ? "hour" : "minute" },
    { enabled: may && person },
  );
  const plain = usePart<{ data: ApiRequest[]; more: boolean }>(
    ["requests-plain", a.id, since, until],
    "/api/v1/requests",
    { principal: `${a.principal.kind}:${a.principal.value}`, since, until, limit: 5000 },
    { enabled: may && person && series.data === null },
  );
  const at = ticks.join();
  return useMemo((): Bars | null => {
    const mark = { from: Date.parse(a.window.first) / 1000, to: Date.parse(a.window.last) / 1000 };
    const marks = at ? at.split(",").map((t) => Date.parse(t) / 1000) : [];
    const s = series.data?.series;
    if (s) {
      const errors = s.errors ?? s.requests.map(() => 0);
      return { start: Date.parse(s.start) / 1000, step: s.step_s, names: ["answered", "errors"], layers: [s.requests.map((n, i) => n - (errors[i] ?? 0)), errors], mark, marks };
    }
    const b = plain.data && bucket(plain.data.data);
    return b ? { ...b, mark, marks } : null;
  }, [series.data, plain.data, a.window.first, a.window.last, at]);
}

const first = 12;

export function Requests({ a }: { a: Alert }) {
  const may = useMay("requests");
  const [chosen, setChosen] = useState<View | null>(null);
  const [all, setAll] = useState(false);
  const [wanted, setWanted] = useState<Wanted | null>(null);
  const trace = useExplanation(wanted);
  const list = usePart<Page>(["requests-of", a.id, a.revision], `/api/v1/alerts/${a.id}/requests`, { limit: 1000 }, { enabled: may });
  const rows = list.data?.data ?? [];
  const found = trace.answer?.alert ?? null;
  const examples: Shown[] = a.exemplars.map((x) => ({ ...x, user_agent: x.agent, evidence: true }));
  const evidence = found && found.events.length > 0 ? traced(found, rows) : examples;
  const bars = useBars(a, may, evidence.map((r) => r.time));
  const there = rows.filter((r) => r.at_endpoint);
  const views: [View, string, Shown[]][] = [["evidence", found ? `Evidence (${integer(found.total)})` : `Evidence: ${plural(examples.length, "example")}`, evidence]];
  const more = list.data?.more ? "+" : "";
  if (there.length) views.push(["endpoint", `At its endpoint (${integer(there.length)}${more})`, there]);
  if (rows.length) views.push(["all", `All in its window (${integer(rows.length)}${more})`, rows]);
  const view = views.find(([id]) => id === chosen) ?? views[0];
  const shown = view?.[2] ?? [];
  return (
    <Section title="Requests" aside={<span className="muted">{plural(a.outcome.requests, "request")} counted</span>}>
      {bars && (
        <Suspense fallback={<div className="plot" />}>
          <Timeline bars={bars} label={`Requests by ${bars.step >= 3600 ? "hour" : "minute"}`} />
        </Suspense>
      )}
      <div className="request-views">
        {views.map(([id, text]) => (
          <Button
            key={id}
            className={id === view?.[0] ? "pick set chosen" : "pick"}
            aria-pressed={id === view?.[0]}
            onPress={() => {
              setChosen(id);
              setAll(false);
            }}
          >
            <span className="value">{text}</span>
          </Button>
        ))}
        <span className="space" />
        {may && !wanted && (
          <Button className="button small" onPress={() => setWanted({ alert: a.id })}>
            Find all that carry evidence
          </Button>
        )}
      </div>
      {wanted && <Working of={trace} />}
      {found && (
        <p className="muted">
          {found.total === 0
            ? "No single request could be traced: this detector joins what several clients did; the examples are below."
            : found.still
              ? "Without these requests the alert still fires: others carry evidence, too."
              : "weir tried it: without these requests the alert does not fire."}
          {!found.whole && " The store no longer holds its first requests."}
        </p>
      )}
      {shown.length > 0 ? <RequestTable rows={all ? shown : shown.slice(0, first)} label="Requests" mark={view?.[0] !== "evidence"} /> : <p className="muted">None is kept with the alert.</p>}
      {shown.length > first && !all && (
        <Button className="link" onPress={() => setAll(true)}>
          Show all {integer(shown.length)}
        </Button>
      )}
      {!may && <p className="muted">All requests are for analysts; these examples are kept with the alert.</p>}
      {may && list.data && rows.length === 0 && <p className="muted">The store no longer holds the requests of that time; these examples are kept with the alert.</p>}
    </Section>
  );
}
