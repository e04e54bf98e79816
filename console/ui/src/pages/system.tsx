// How weir itself does: is it behind, did it lose anything, what can it not see.
import { usePart } from "../api/part";
import type { Blindspots, Series, SystemPage as System } from "../api/types";
import { bytes, decimal, duration, integer, plural, word } from "../lib/format";
import { Fact, Facts, Section, Time } from "../ui/bits";
import { Answer, Page } from "../ui/page";
import { SeriesChart } from "../ui/series";

function Health({ s }: { s: System }) {
  const dead = s.sinks.reduce((n, x) => n + x.dead_letters, 0);
  const lost = s.sources.reduce((n, x) => n + x.lost, 0);
  const said: string[] = [];
  if (!s.ready) said.push(`weir waits for ${s.waits_for.join("; ") || "its start"}`);
  if (s.detect.lag_records > 0 && (s.detect.lag_s ?? 0) > 60) said.push(`detection is ${duration(s.detect.lag_s ?? 0)} behind`);
  if (lost > 0) said.push(`${plural(lost, "record")} were lost before weir`);
  if (s.store.shed > 0) said.push(`${plural(s.store.shed, "stored request")} were given up for lack of space`);
  if (dead > 0) said.push(`${plural(dead, "alert")} could not be delivered and ${dead === 1 ? "waits" : "wait"} to be sent again`);
  for (const p of s.processes) {
    if (p.state === "gone") said.push(`${p.roles.join(", ")} of ${p.instance} says nothing any more`);
  }
  if (s.detect.replay_differences > 0) said.push(`${plural(s.detect.replay_differences, "difference")} after a replay: a fault of weir`);
  for (const x of s.sinks) if (x.state && x.state !== "ok") said.push(`sink ${x.name} is ${x.state}${x.reason ? `: ${x.reason}` : ""}`);
  for (const x of s.rejects) if (x.count > 0 && s.sources.some((y) => y.rejected > y.lines / 20)) said.push(`${plural(x.count, "line")} rejected: ${word(x.reason)}`);
  if (said.length === 0) return <p className="health good">All is well: weir reads, detects and delivers.</p>;
  return (
    <div className="health notice" role="alert">
      <strong>weir is not well</strong>
      <ul>
        {said.map((x) => (
          <li key={x}>{x}</li>
        ))}
      </ul>
    </div>
  );
}

function Meter({ value, max }: { value: number; max: number | null }) {
  if (!max) return null;
  const share = Math.min(1, value / max);
  return (
    <svg className={share > 0.9 ? "meter full" : "meter"} viewBox="0 0 100 6" preserveAspectRatio="none" role="img" aria-label={`${Math.round(share * 100)} % of ${integer(max)}`}>
      <rect className="track" width="100" height="6" />
      <rect className="bar" width={share * 100} height="6" />
    </svg>
  );
}

function Blind() {
  const q = usePart<Blindspots>(["blindspots"], "/api/v1/blindspots", {}, { every: 60_000 });
  if (!q.data) return null;
  return (
    <Section title="What cannot be seen in this traffic" aside={<span className="muted">{plural(q.data.requests, "request")} looked at</span>}>
      {q.data.data.length === 0 && <p className="muted">Nothing is missing, as far as can be said.</p>}
      <ul className="plain-list blind">
        {q.data.data.map((b, i) => (
          <li key={i}>
            <strong>{b.detector}</strong> {b.endpoint && <span className="mono">{b.endpoint}</span>}{" "}
            {{ all: "finds nothing", some: `misses attacks ${b.attacks}`, time: "takes longer", precision: "also finds harmless clients" }[b.loses]}
            <div className="second">{b.why}</div>
            <div>
              <span className="muted">Fix:</span> {b.fix}
            </div>
          </li>
        ))}
      </ul>
    </Section>
  );
}

/** The processes of a fleet; weir run is one alone and lists none. */
function Processes({ s }: { s: System }) {
  if (s.processes.length === 0) return null;
  const pairs = (list: { name: string; value: number }[]) => list.map((x) => `${x.name} ${integer(x.value)}`).join(", ");
  return (
    <Section title="Processes">
      <div className="table-box" tabIndex={0} role="region" aria-label="Processes, as a table">
        <table>
          <thead>
            <tr>
              <th scope="col">Roles</th>
              <th scope="col">Process</th>
              <th scope="col">State</th>
              <th scope="col" className="wide-only">Slices</th>
              <th scope="col">Waiting records</th>
              <th scope="col" className="wide-only">Started</th>
            </tr>
          </thead>
          <tbody>
            {s.processes.map((p) => (
              <tr key={`${p.instance} ${p.pid}`}>
                <th scope="row">{p.roles.join(", ")}</th>
                <td className="mono break">
                  {p.instance} <span className="muted">{p.pid}</span>
                </td>
                <td className={p.state === "gone" ? "bad" : p.state === "ended" ? "muted" : "good"}>
                  {p.state}
                  {p.state !== "running" && (
                    <div className="second">
                      <Time at={p.seen} relative />
                    </div>
                  )}
                </td>
                <td className="wide-only">{pairs(p.slices)}</td>
                <td>{pairs(p.lag) || "none"}</td>
                <td className="wide-only">
                  <Time at={p.started} relative />
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </Section>
  );
}

function View({ s }: { s: System }) {
  const traffic = usePart<{ since: string; until: string; series: Series }>(["traffic"], "/api/v1/traffic", { step: "minute" }, { every: 60_000 });
  return (
    <>
      <Health s={s} />
      <div className="columns">
        <div className="main-column">
          <Section title="Detection" aside={<span className="muted">{s.traffic_per_s !== null && `${decimal(s.traffic_per_s)} requests/s`}</span>}>
            <Facts>
              <Fact name="Event time reached">
                <Time at={s.detect.through} />
              </Fact>
              <Fact name="Behind by">
                {s.detect.lag_records === 0 ? "nothing waits" : `${s.detect.lag_s === null ? "" : duration(s.detect.lag_s) + ", "}${plural(s.detect.lag_records, "record")}`}
              </Fact>
              {s.detect.late !== null && <Fact name="Late">{integer(s.detect.late)}</Fact>}
              {s.detect.skewed !== null && <Fact name="Skewed clocks">{integer(s.detect.skewed)}</Fact>}
              {s.detect.duplicates !== null && <Fact name="Repeated">{integer(s.detect.duplicates)}</Fact>}
              <Fact name="Edition">
                {s.edition ? (
                  <>
                    {s.edition.number}, since <Time at={s.edition.effective} />
                  </>
                ) : (
                  "none yet"
                )}
              </Fact>
            </Facts>
            {traffic.data && <SeriesChart series={traffic.data.series} label="Requests by minute" />}
          </Section>
          <Section title="Sources">
            <div className="table-box" tabIndex={0} role="region" aria-label="Sources, as a table">
              <table>
                <thead>
                  <tr>
                    <th scope="col">Source</th>
                    <th scope="col" className="num">Requests</th>
                    <th scope="col" className="num wide-only">Lines</th>
                    <th scope="col" className="num">Rejected</th>
                    <th scope="col" className="num">Lost</th>
                    <th scope="col" className="wide-only">Last line</th>
                  </tr>
                </thead>
                <tbody>
                  {s.sources.map((x) => (
                    <tr key={x.source}>
                      <th scope="row" className="mono break">{x.source}</th>
                      <td className="num">{integer(x.requests)}</td>
                      <td className="num wide-only">{integer(x.lines)}</td>
                      <td className={x.rejected ? "num bad" : "num"}>{integer(x.rejected)}</td>
                      <td className={x.lost ? "num bad" : "num"}>{integer(x.lost)}</td>
                      <td className="wide-only"><Time at={x.last_line} relative /></td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </div>
            {s.rejects.length > 0 && <p>Rejected for: {s.rejects.map((r) => `${word(r.reason)} ${integer(r.count)}`).join(", ")}</p>}
          </Section>
          <Processes s={s} />
          <Blind />
        </div>
        <div className="side-column">
          <Section title="Sinks">
            {s.sinks.length === 0 && <p className="muted">None is configured.</p>}
            <ul className="plain-list">
              {s.sinks.map((x) => (
                <li key={x.name}>
                  <strong>{x.name}</strong> <span className="muted">{x.kind}</span>{" "}
                  {x.state && x.state !== "ok" ? <span className="bad">{x.state}</span> : null} {x.behind > 0 ? <span className={x.state === "ok" ? "" : "bad"}>{plural(x.behind, "row")} of the feed behind</span> : <span className="good">up to date</span>}
                  {x.reason && x.state !== "ok" && <div className="second break">{x.reason}</div>}
                  {(x.retries > 0 || x.dead_letters > 0) && (
                    <div className="second">
                      {plural(x.retries, "retry", "retries")}, {plural(x.dead_letters, "dead letter")}
                    </div>
                  )}
                </li>
              ))}
            </ul>
          </Section>
          <Section title="Feed readers">
            {s.readers.length === 0 && <p className="muted">Nobody reads a feed.</p>}
            <ul className="plain-list">
              {s.readers.map((r, i) => (
                <li key={i}>
                  <strong>{r.name || r.reader}</strong> <span className="muted">{r.feed}</span> {r.lag_rows > 0 ? `${integer(r.lag_rows)} behind` : "up to date"}
                  <div className="second">
                    <Time at={r.last_read} relative />
                  </div>
                </li>
              ))}
            </ul>
          </Section>
          {s.state.length > 0 && (
            <Section title="State">
              <ul className="plain-list">
                {s.state.map((x) => (
                  <li key={x.name}>
                    {word(x.name)} <strong>{integer(x.value)}</strong>
                  </li>
                ))}
              </ul>
            </Section>
          )}
          <Section title="Store">
            <Facts>
              <Fact name="File">
                <span className="mono break">{s.store.path}</span>
              </Fact>
              <Fact name="Size">
                {bytes(s.store.file_bytes)}
                {s.store.max_bytes !== null && ` of at most ${bytes(s.store.max_bytes)}`}
                <Meter value={s.store.file_bytes} max={s.store.max_bytes} />
              </Fact>
              {s.store.disk_free !== null && <Fact name="Free on the disk">{bytes(s.store.disk_free)}</Fact>}
              {s.store.requests !== null && (
                <Fact name="Requests">
                  {integer(s.store.requests)}
                  {s.store.requests > 0 && (
                    <>
                      , <Time at={s.store.oldest} /> to <Time at={s.store.newest} />
                    </>
                  )}
                </Fact>
              )}
              <Fact name="Alerts">{integer(s.store.alerts)}</Fact>
            </Facts>
          </Section>
          <Section title="weir">
            <Facts>
              <Fact name="Version">{s.version}</Fact>
              <Fact name="Configuration">
                <span className="mono break">{s.config}</span>
              </Fact>
              <Fact name="Started">
                <Time at={s.started} relative />
              </Fact>
            </Facts>
          </Section>
        </div>
      </div>
    </>
  );
}

export default function SystemPage() {
  const q = usePart<System>(["system"], "/api/v1/system", {}, { every: 10_000 });
  return (
    <Page title="System" lead="Whether weir sees, keeps up and delivers.">
      {q.data === null ? <Blind /> : <Answer of={q} what="The system">{(s) => <View s={s} />}</Answer>}
    </Page>
  );
}
