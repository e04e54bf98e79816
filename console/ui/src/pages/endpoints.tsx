// Endpoints: all of them, and one.
import { useState } from "react";
import { AlertLines } from "../alerts/grouped";
import { usePart } from "../api/part";
import type { EndpointPage, EndpointRow } from "../api/types";
import { bytes, decimal, integer } from "../lib/format";
import { Link, setQuery, usePath, useSearch } from "../lib/router";
import { Fact, Facts, Section, Time } from "../ui/bits";
import { Answer, Page } from "../ui/page";
import { PeriodPicker, usePeriod } from "../ui/period";
import { SeriesChart } from "../ui/series";
import { type Column, DataTable } from "../ui/table";

const columns: Column<EndpointRow>[] = [
  {
    id: "endpoint",
    head: "Endpoint",
    value: (e) => `${e.host}${e.template} ${e.method}`,
    cell: (e) => (
      <Link className="mono break" to={`/endpoints/one?${new URLSearchParams({ method: e.method, host: e.host, template: e.template })}`}>
        {e.method} {e.host}
        {e.template}
      </Link>
    ),
  },
  { id: "requests", head: "Requests", num: true, value: (e) => e.requests, cell: (e) => integer(e.requests) },
  { id: "errors", head: "Errors", num: true, value: (e) => e.errors, cell: (e) => integer(e.errors) },
  { id: "share", head: "Errors %", num: true, wide: true, value: (e) => (e.requests ? e.errors / e.requests : null), cell: (e) => (e.requests ? `${Math.round((100 * e.errors) / e.requests)} %` : "–") },
  { id: "bytes", head: "Bytes", num: true, wide: true, value: (e) => e.bytes, cell: (e) => bytes(e.bytes) },
  { id: "alerts", head: "Alerts", num: true, value: (e) => e.alerts, cell: (e) => (e.alerts ? <strong>{integer(e.alerts)}</strong> : "0") },
  { id: "last", head: "Last", wide: true, value: (e) => e.last, cell: (e) => <Time at={e.last} relative /> },
];

function All() {
  const { query } = usePeriod();
  const search = new URLSearchParams(useSearch());
  const [text, setText] = useState(search.get("q") ?? "");
  const q = usePart<{ data: EndpointRow[]; more: boolean; since: string; until: string; other?: { requests: number } }>(
    ["endpoints", query.since, query.until, search.get("q")],
    "/api/v1/endpoints",
    { since: query.since, until: query.until, q: search.get("q"), limit: 1000 },
    { keep: true, says: true },
  );
  return (
    <Page title="Endpoints" lead="What is asked for, as weir groups it." aside={<PeriodPicker />}>
      <form
        className="inline-form"
        role="search"
        onSubmit={(e) => {
          e.preventDefault();
          setQuery({ q: text.trim() || null });
        }}
      >
        <input type="search" aria-label="Search endpoints" placeholder="Part of a path" value={text} onChange={(e) => setText(e.target.value)} />
      </form>
      <Answer of={q} what="The endpoints">
        {(d) => (
          <Section
            title={`${integer(d.data.length)}${d.more ? " or more" : ""} endpoints`}
            aside={
              <span className="muted">
                <Time at={d.since} /> to <Time at={d.until} />
              </span>
            }
          >
            <DataTable rows={d.data} columns={columns} label="Endpoints" keyOf={(e) => `${e.method} ${e.host} ${e.template}`} sort={{ id: "requests", desc: true }} />
            {d.other && d.other.requests > 0 && <p className="muted">{integer(d.other.requests)} requests went to endpoints past those that are counted each minute.</p>}
          </Section>
        )}
      </Answer>
    </Page>
  );
}

function View({ e }: { e: EndpointPage }) {
  const statuses = Object.entries(e.statuses).filter(([, n]) => n > 0);
  const name = [e.endpoint.method, e.endpoint.host, e.endpoint.template].filter(Boolean).join(" ");
  return (
    <div className="columns">
      <div className="main-column">
        <Section
          title="Requests"
          aside={
            <span className="muted">
              <Time at={e.since} /> to <Time at={e.until} />
            </span>
          }
        >
          <Facts>
            <Fact name="Requests">{integer(e.requests)}</Fact>
            <Fact name="Answers">{statuses.map(([s, n]) => `${s} ${integer(n)}`).join(", ") || "none"}</Fact>
            <Fact name="Bytes">{bytes(e.bytes)}</Fact>
          </Facts>
          <SeriesChart series={e.series} label={e.series.step_s >= 3600 ? "Requests by hour" : "Requests by minute"} />
        </Section>
        <Section title={`Alerts (${integer(e.alerts_total)})`} aside={<Link to={`/alerts?endpoint=${encodeURIComponent(name)}&triage=any&suppressed=any`}>In the list</Link>}>
          {e.alerts.length ? <AlertLines rows={e.alerts} /> : <p className="muted">Nothing was raised about it.</p>}
        </Section>
      </div>
      <div className="side-column">
        {e.baseline && (
          <Section title="What is ordinary here">
            <Facts>
              {!e.baseline.known && <Fact name="Known">not in what was learned yet</Fact>}
              {e.baseline.facts.map((f) => (
                <Fact key={f.name} name={f.text || f.name}>
                  {decimal(f.value)} {f.unit}
                </Fact>
              ))}
            </Facts>
          </Section>
        )}
      </div>
    </div>
  );
}

function One() {
  const s = new URLSearchParams(useSearch());
  const { query } = usePeriod();
  const ask = { method: s.get("method"), host: s.get("host"), template: s.get("template") };
  const q = usePart<EndpointPage>(["endpoint", ask, query], "/api/v1/endpoints/one", { ...ask, ...query }, { keep: true, says: true });
  return (
    <Page
      title={
        <span className="mono break">
          {ask.method} {ask.host}
          {ask.template}
        </span>
      }
      aside={<PeriodPicker />}
    >
      <Answer of={q} what="The endpoint">
        {(e) => <View e={e} />}
      </Answer>
    </Page>
  );
}

export default function EndpointsPage() {
  return usePath() === "/endpoints/one" ? <One /> : <All />;
}
