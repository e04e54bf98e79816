// Cases of detectors in shadow mode: found and kept, and told to nobody.
import { useState, type FormEvent } from "react";
import { usePart } from "../api/part";
import type { DetectorRow, ShadowCase } from "../api/types";
import { decimal, duration, plural } from "../lib/format";
import { amount, signalText } from "../lib/signals";
import { Link, navigate, setQuery, useSearch } from "../lib/router";
import { PrincipalLink, Section, Time } from "../ui/bits";
import { Nearness } from "../ui/explain";
import { Answer, Page } from "../ui/page";
import { PeriodPicker, usePeriod } from "../ui/period";
import { RequestTable } from "../ui/requests";

const review = 13.82;
const page = 18.42;

function Case({ c }: { c: ShadowCase }) {
  return (
    <li className="shadow-case">
      <details>
        <summary>
          <span className={c.tier === "page" ? "flag would-page" : "flag"}>{c.tier === "page" ? "would page" : "would be reviewed"}</span>
          <strong>{c.title}</strong>
          <span className="second">
            {c.detector} · <Time at={c.last} relative />, over {duration((Date.parse(c.last) - Date.parse(c.first)) / 1000)}
          </span>
        </summary>
        <p>{c.reason}</p>
        <p className="muted">
          <PrincipalLink of={c.principal} />
          {c.endpoint.template && (
            <>
              {" at "}
              <Link className="mono" to={`/endpoints/one?${new URLSearchParams({ method: c.endpoint.method, host: c.endpoint.host, template: c.endpoint.template })}`}>
                {c.endpoint.method} {c.endpoint.host}
                {c.endpoint.template}
              </Link>
            </>
          )}
          {" · "}
          <Link to={`/explain?client=${encodeURIComponent(`${c.principal.kind}:${c.principal.value}`)}`}>Why did it not fire?</Link>
        </p>
        <Nearness nats={c.score} review={review} page={page} label={`${decimal(c.score)} nats of evidence; review begins at ${review}, a page at ${page}`} />
        <p className="second">
          {decimal(c.score)} nats of evidence (review {review}, page {page}): {c.signals.map((s) => `${signalText(s.name)}: ${amount(s.name, s.observed)}, ${amount(s.name, s.expected)} expected`).join("; ")}
        </p>
        {c.exemplars.length > 0 && <RequestTable rows={c.exemplars.map((x) => ({ ...x, user_agent: x.agent }))} label={`Examples of ${c.title}`} />}
      </details>
    </li>
  );
}

export default function ShadowPage() {
  const search = new URLSearchParams(useSearch());
  const { query } = usePeriod();
  const [who, setWho] = useState(search.get("principal") ?? "");
  const detectors = usePart<{ data: DetectorRow[] }>(["detectors"], "/api/v1/detectors");
  const detector = search.get("detector") ?? "";
  const q = usePart<{ data: ShadowCase[]; more: boolean }>(
    ["shadow", detector, search.get("principal"), query.since, query.until],
    "/api/v1/shadow",
    { detector, principal: search.get("principal"), since: query.since, until: query.until, limit: 200 },
    { keep: true, every: 60_000, says: true },
  );
  const inShadow = detectors.data?.data.filter((d) => d.mode === "shadow") ?? [];
  const submit = (e: FormEvent) => {
    e.preventDefault();
    const v = who.trim();
    setQuery({ principal: v && !/^[a-z]+:/.test(v) ? `ip:${v}` : v || null });
  };
  const names = [...new Set([...inShadow.map((d) => d.name), ...(detector ? [detector] : [])])];
  return (
    <Page title="Shadow cases" lead="What detectors in shadow mode found: kept, and told to nobody. Whether a detector is ready to be switched on is decided by these." aside={<PeriodPicker />}>
      <div className="filter-line">
        <label className="pick">
          <span className="muted">Detector</span>
          <select value={detector} onChange={(e) => setQuery({ detector: e.target.value || null })}>
            <option value="">any in shadow mode</option>
            {names.map((n) => (
              <option key={n} value={n}>
                {n}
              </option>
            ))}
          </select>
        </label>
        <form role="search" onSubmit={submit}>
          <input type="search" aria-label="Client" placeholder="Client: 203.0.113.7, key:k_…" value={who} onChange={(e) => setWho(e.target.value)} onBlur={(e) => !e.target.value && search.get("principal") && setQuery({ principal: null })} />
        </form>
        {(detector || search.get("principal")) && (
          <Link
            className="clear"
            to="/shadow"
            onClick={(e) => {
              e.preventDefault();
              setWho("");
              navigate("/shadow");
            }}
          >
            Clear filters
          </Link>
        )}
      </div>
      <Answer of={q} what="The shadow cases">
        {(d) => (
          <Section title={`${plural(d.data.length, "case")}${d.more ? ", the newest" : ""}`} aside={<Link to="/detectors">Modes of the detectors</Link>}>
            {d.data.length === 0 && (
              <p className="muted">
                {inShadow.length === 0 ? "No detector is in shadow mode. " : "None under these filters. "}
                {inShadow.length === 0 && (
                  <>
                    A detector that is new or changed can be tried so: <Link to="/detectors">choose one</Link> and set its mode to shadow.
                  </>
                )}
              </p>
            )}
            <ul className="plain-list">
              {d.data.map((c) => (
                <Case key={c.id} c={c} />
              ))}
            </ul>
          </Section>
        )}
      </Answer>
    </Page>
  );
}
