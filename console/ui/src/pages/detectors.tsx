// Detectors: what they raised, how often people found it wrong, and their knobs.
import { useState } from "react";
import { Button } from "react-aria-components";
import { usePart } from "../api/part";
import type { DetectorRow } from "../api/types";
import { integer } from "../lib/format";
import { classText } from "../lib/names";
import { Link, setQuery, useQueryParam } from "../lib/router";
import { Fact, Facts, Section, Time, verdictText } from "../ui/bits";
import { Answer, Page } from "../ui/page";
import { type Column, DataTable } from "../ui/table";

function rate(d: DetectorRow): string {
  if (d.false_positive_rate === null) return "no verdicts";
  return `${Math.round(d.false_positive_rate * 100)} % of ${integer(d.judged)}`;
}

const columns: Column<DetectorRow>[] = [
  {
    id: "name",
    head: "Detector",
    value: (d) => d.name,
    cell: (d) => (
      <Button className="link strong" onPress={() => setQuery({ name: d.name })}>
        {d.name}
      </Button>
    ),
  },
  { id: "title", head: "Finds", wide: true, value: (d) => d.title },
  { id: "mode", head: "Mode", value: (d) => d.mode, cell: (d) => <span className={`mode mode-${d.mode}`}>{d.mode}</span> },
  { id: "alerts", head: "Alerts", num: true, value: (d) => d.alerts, cell: (d) => <Link to={`/alerts?detector=${d.name}&triage=any`}>{integer(d.alerts)}</Link> },
  { id: "open", head: "Open", num: true, wide: true, value: (d) => d.open, cell: (d) => integer(d.open) },
  { id: "fp", head: "False positives", num: true, value: (d) => d.false_positive_rate, cell: rate },
  { id: "last", head: "Last alert", wide: true, value: (d) => d.last, cell: (d) => <Time at={d.last} relative /> },
];

/** Doc shows the detector's page: paragraphs, lists and code of Markdown, as text. */
function Doc({ text }: { text: string }) {
  const blocks = text.split(/\n{2,}/).filter((b) => b.trim());
  const inline = (s: string) =>
    s.split(/(`[^`]+`|\*\*[^*]+\*\*)/).map((part, i) => {
      if (part.startsWith("`")) return <code key={i}>{part.slice(1, -1)}</code>;
      if (part.startsWith("**")) return <strong key={i}>{part.slice(2, -2)}</strong>;
      return part.replace(/\[([^\]]+)\]\([^)]+\)/g, "$1");
    });
  return (
    <div className="doc">
      {blocks.map((b, i) => {
        if (/^#{1,6} /.test(b)) return <h3 key={i}>{b.replace(/^#+ /, "")}</h3>;
        if (/^[-*] /.test(b)) return <ul key={i}>{b.split(/\n(?=[-*] )/).map((l, k) => <li key={k}>{inline(l.slice(2))}</li>)}</ul>;
        if (/^(```|\|)/.test(b)) return <pre key={i} tabIndex={0}>{b.replace(/^```\w*\n?|```$/g, "")}</pre>;
        return <p key={i}>{inline(b.replace(/\n/g, " "))}</p>;
      })}
    </div>
  );
}

const show = (v: unknown) => (typeof v === "object" && v !== null ? JSON.stringify(v) : String(v));

function One({ d }: { d: DetectorRow }) {
  const [doc, setDoc] = useState(false);
  const given = Object.entries(d.verdicts).filter(([, n]) => n > 0);
  return (
    <Section title={d.name} aside={<Link to="/tuning">Try a change</Link>}>
      <p>{d.title}</p>
      <Facts>
        <Fact name="Mode">
          {d.mode}
          {d.mode === "shadow" && " (found and counted, sent nowhere)"}
        </Fact>
        <Fact name="Alerts">
          {integer(d.alerts)}, {integer(d.open)} open
        </Fact>
        <Fact name="False positives">{rate(d)}</Fact>
        <Fact name="Verdicts">{given.length ? given.map(([v, n]) => `${verdictText(v)} ${integer(n)}`).join(", ") : "none yet"}</Fact>
        {[...d.attack, ...d.owasp_api, ...d.oat].length > 0 && (
          <Fact name="Classification">
            {[...d.attack, ...d.owasp_api, ...d.oat].map((id) => (
              <div key={id}>
                <span className="mono">{id}</span> {classText(id)}
              </div>
            ))}
          </Fact>
        )}
      </Facts>
      {d.knobs.length > 0 && (
        <>
          <h3>Knobs</h3>
          <div className="table-box" tabIndex={0} role="region" aria-label="Knobs">
            <table>
              <thead>
                <tr>
                  <th scope="col">Name</th>
                  <th scope="col" className="num">Now</th>
                  <th scope="col" className="num">As shipped</th>
                  <th scope="col" className="wide-only">What it is</th>
                </tr>
              </thead>
              <tbody>
                {d.knobs.map((k) => (
                  <tr key={k.name}>
                    <th scope="row" className="mono">{k.name}</th>
                    <td className={`num${show(k.value) !== show(k.default) ? " strong" : ""}`}>
                      {show(k.value)} {k.unit}
                    </td>
                    <td className="num muted">{show(k.default)}</td>
                    <td className="wide-only">{k.text}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        </>
      )}
      {d.doc && (
        <>
          <Button className="link" onPress={() => setDoc(!doc)} aria-expanded={doc}>
            {doc ? "Hide how it works" : "How it works"}
          </Button>
          {doc && <Doc text={d.doc} />}
        </>
      )}
    </Section>
  );
}

export default function DetectorsPage() {
  const name = useQueryParam("name");
  const q = usePart<{ data: DetectorRow[] }>(["detectors"], "/api/v1/detectors", {}, { every: 60_000 });
  return (
    <Page title="Detectors" lead="A false positive is a closed alert with the verdict false; benign ones that happened are none.">
      <Answer of={q} what="The detectors">
        {(d) => {
          const one = d.data.find((x) => x.name === name);
          return (
            <>
              {one && <One key={one.name} d={one} />}
              <Section title="All detectors">
                <DataTable rows={d.data} columns={columns} label="Detectors" keyOf={(x) => x.name} sort={{ id: "alerts", desc: true }} />
              </Section>
            </>
          );
        }}
      </Answer>
    </Page>
  );
}
