// A client: what it did, where from, and what was raised about it.
import { AlertLines } from "../alerts/grouped";
import { usePart } from "../api/part";
import { useMay } from "../api/session";
import type { ApiRequest, PrincipalPage as Principal } from "../api/types";
import { bytes, integer, plural } from "../lib/format";
import { Link, usePath } from "../lib/router";
import { Copy, Fact, Facts, Section, Time } from "../ui/bits";
import { AccountName, RevealButton } from "../alerts/reveal";
import { ClientExplained } from "../ui/explain";
import { Answer, Page } from "../ui/page";
import { PeriodPicker, usePeriod } from "../ui/period";
import { RequestTable } from "../ui/requests";
import { SeriesChart } from "../ui/series";
import { type Column, DataTable } from "../ui/table";

const endpointColumns: Column<Principal["endpoints"][number]>[] = [
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
];

function Counted({ title, rows }: { title: string; rows: { value: string; requests: number }[] }) {
  if (rows.length === 0) return null;
  return (
    <Section title={title}>
      <table className="plain">
        <tbody>
          {rows.slice(0, 20).map((r) => (
            <tr key={r.value}>
              <td className="mono break">{r.value || "–"}</td>
              <td className="num">{integer(r.requests)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </Section>
  );
}

function View({ p, requests, given }: { p: Principal; requests: ApiRequest[] | null | undefined; given: { since?: string; until?: string } }) {
  const statuses = Object.entries(p.statuses).filter(([, n]) => n > 0);
  return (
    <div className="columns">
      <div className="main-column">
        <Section title="Requests" aside={<span className="muted"><Time at={p.since} /> to <Time at={p.until} /></span>}>
          {!p.complete && <p className="notice">This was too much to read: the newest part is here.</p>}
          <Facts>
            <Fact name="Requests">{integer(p.requests)}</Fact>
            <Fact name="Answers">{statuses.map(([s, n]) => `${s} ${integer(n)}`).join(", ") || "none"}</Fact>
            <Fact name="Bytes">{p.bytes === null ? "not known" : bytes(p.bytes)}</Fact>
            <Fact name="First seen">
              <Time at={p.first_seen} />
            </Fact>
            <Fact name="Last seen">
              <Time at={p.last_seen} />
            </Fact>
            {p.context && <Fact name="Network">{[p.context.network, p.context.asn, p.context.country].filter(Boolean).join(" · ") || "not known"}</Fact>}
            {p.context?.people && <Fact name="People behind it">{p.context.people.join(" to ")}</Fact>}
          </Facts>
          <SeriesChart series={p.series} label={p.series.step_s >= 3600 ? "Requests by hour" : "Requests by minute"} />
        </Section>
        <Section title={`Alerts (${integer(p.alerts_total)})`} aside={<Link to={`/alerts?principal=${encodeURIComponent(`${p.principal.kind}:${p.principal.value}`)}&triage=any&suppressed=any`}>In the list</Link>}>
          {p.alerts.length ? <AlertLines rows={p.alerts} /> : <p className="muted">Nothing was raised about it.</p>}
        </Section>
        <ClientExplained kind={p.principal.kind} value={p.principal.value} since={given.since} until={given.until} />
        <Section title="Endpoints">
          <DataTable rows={p.endpoints} columns={endpointColumns} label="Endpoints" keyOf={(e) => `${e.method} ${e.host}${e.template}`} sort={{ id: "requests", desc: true }} />
        </Section>
        {requests && requests.length > 0 && (
          <Section title="Latest requests" aside={<span className="muted">{plural(requests.length, "request")}</span>}>
            <RequestTable rows={requests} label="Latest requests" />
          </Section>
        )}
      </div>
      <div className="side-column">
        <Counted title="Addresses" rows={p.addresses} />
        <Counted title="User agents" rows={p.agents} />
      </div>
    </div>
  );
}

export default function PrincipalPage() {
  const [, , kind = "", ...rest] = usePath().split("/");
  const value = decodeURIComponent(rest.join("/"));
  const { query } = usePeriod();
  const may = useMay("requests");
  const q = usePart<Principal>(["principal", kind, value, query], `/api/v1/principals/${kind}/${encodeURIComponent(value)}`, query, { keep: true, says: true });
  const latest = usePart<{ data: ApiRequest[] }>(["principal-requests", kind, value, query.since, query.until], "/api/v1/requests", { principal: `${kind}:${value}`, since: query.since, until: query.until, limit: 100 }, { enabled: may });
  return (
    <Page
      title={
        <>
          {kind !== "ip" && <span className="muted">{kind} </span>}
          <span className="mono break">{value.startsWith("u_") ? <AccountName token={value} /> : value}</span> <Copy text={value} />
        </>
      }
      lead={value.startsWith("u_") && <RevealButton tokens={[value]} alert="" />}
      aside={<PeriodPicker />}
    >
      <Answer of={q} what="The client">
        {(p) => <View p={p} requests={latest.data?.data} given={query} />}
      </Answer>
    </Page>
  );
}
