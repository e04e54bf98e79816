// Detectors: what they raised, how often people found it wrong, and their knobs.
import { useState } from "react";
import { Button, Label, Radio, RadioGroup } from "react-aria-components";
import { usePart } from "../api/part";
import { useMay } from "../api/session";
import type { DetectorRow } from "../api/types";
import { integer } from "../lib/format";
import { classText } from "../lib/names";
import { Link, navigate, setQuery, useQueryParam } from "../lib/router";
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
  { id: "title", head: "Finds", wide: true, value: (d) => d.title || (d.name.startsWith("health.") ? "How weir itself is" : "") },
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

const modes: { id: string; text: string }[] = [
  { id: "on", text: "on: raises alerts" },
  { id: "shadow", text: "shadow: finds and keeps cases, tells nobody" },
  { id: "off", text: "off: looks at nothing" },
];

/** ModeKnob leads into the tuning desk: a mode is tried on what is stored before it is applied. */
function ModeKnob({ d }: { d: DetectorRow }) {
  const may = useMay("backtest");
  const [mode, setMode] = useState(d.mode);
  if (d.name.startsWith("health.")) return null;
  if (!may) return <p>Mode: {modes.find((m) => m.id === d.mode)?.text ?? d.mode}</p>;
  return (
    <div className="knobs">
      <RadioGroup className="radios inline" value={mode} onChange={(v) => setMode(v as typeof mode)}>
        <Label>Mode</Label>
        {modes.map((m) => (
          <Radio key={m.id} value={m.id} className="radio">
            {m.text}
          </Radio>
        ))}
      </RadioGroup>
      {mode !== d.mode && (
        <Button className="button primary" onPress={() => navigate(`/tuning?set=${encodeURIComponent(d.name)}:${mode}`)}>
          Try {mode} on what is stored …
        </Button>
      )}
    </div>
  );
}

function One({ d }: { d: DetectorRow }) {
  const [doc, setDoc] = useState(false);
  const given = Object.entries(d.verdicts).filter(([, n]) => n > 0);
  return (
    <Section title={d.name} aside={<Link to={`/alerts?detector=${encodeURIComponent(d.name)}&triage=any`}>Its alerts</Link>}>
      <p>{d.title}</p>
      <Facts>
        {d.mode === "shadow" && (
          <Fact name="Shadow cases">
            <Link to={`/shadow?detector=${encodeURIComponent(d.name)}`}>What it found</Link>
          </Fact>
        )}
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
      <ModeKnob d={d} />
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
              {one && <One key={`${one.name} ${one.mode}`} d={one} />}
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
