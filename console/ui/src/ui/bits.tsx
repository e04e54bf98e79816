// Small pieces that every page shows.
import { useState, type ReactNode } from "react";
import { Button } from "react-aria-components";
import { Problem } from "../api/client";
import type { Principal, Severity, TriageStatus, Verdict } from "../api/types";
import { useNow } from "../lib/clock";
import { ago, clockOf, dayOf, principalText, utcOf } from "../lib/format";
import { Link } from "../lib/router";
import { Icon } from "./icons";

export const severities: Severity[] = ["critical", "high", "medium", "low", "info"];
export const rank = (s: Severity) => severities.length - severities.indexOf(s);

const shapes: Record<Severity, string> = {
  critical: "M8 0.500 15.500 8 8 15.500 0.500 8Z",
  high: "M8 1 15.500 14.500H0.500Z",
  medium: "M8 8m-6.500 0a6.500 6.500 0 1 0 13 0a6.500 6.500 0 1 0-13 0",
  low: "M2 2h12v12H2Z",
  info: "M2 6.500h12v3H2Z",
};

/** SeverityMark has a shape and a word beside the colour. */
export function SeverityMark({ of, wordless = false }: { of: Severity; wordless?: boolean }) {
  return (
    <span className={`sev sev-${of}`}>
      <svg viewBox="0 0 16 16" aria-hidden={!wordless} role={wordless ? "img" : undefined} aria-label={wordless ? of : undefined}>
        <path d={shapes[of]} />
      </svg>
      {!wordless && <span>{of}</span>}
    </span>
  );
}

export const verdicts: { id: Verdict; short: string; text: string }[] = [
  { id: "true_positive", short: "attack", text: "A real attack" },
  { id: "benign_positive", short: "real, benign", text: "It happened, and it is allowed (a test, a partner, a migration)" },
  { id: "false_positive_logic", short: "false (detection)", text: "Not what it says: the detection is wrong" },
  { id: "false_positive_data", short: "false (data)", text: "Not what it says: the data is wrong" },
  { id: "duplicate", short: "duplicate", text: "Already handled under another alert" },
  { id: "undetermined", short: "undetermined", text: "Cannot be decided with what is known" },
  { id: "test", short: "test", text: "A test of detection itself" },
];
export const verdictText = (v: string) => verdicts.find((x) => x.id === v)?.short ?? v;

export const statusText: Record<TriageStatus, string> = { new: "new", in_progress: "in progress", closed: "closed" };

export function TriageMark({ status, verdict }: { status: TriageStatus; verdict: string }) {
  return (
    <span className={`triage triage-${status}`}>
      {statusText[status]}
      {verdict && `: ${verdictText(verdict)}`}
    </span>
  );
}

/** Time is the reader's own, with UTC where it is pointed at. */
export function Time({ at, relative = false }: { at: string | null | undefined; relative?: boolean }) {
  const now = useNow();
  if (!at) return <span className="muted">–</span>;
  const date = new Date(at);
  const today = new Date(now).toDateString() === date.toDateString();
  return (
    <time dateTime={at} title={`${utcOf(at)}\n${dayOf(at)} ${clockOf(at)} here`}>
      {relative ? ago(at, now) : today ? clockOf(at) : `${dayOf(at)} ${clockOf(at)}`}
    </time>
  );
}

export function PrincipalLink({ of }: { of: Principal }) {
  if (of.kind === "endpoint" || of.kind === "cohort" || of.kind === "") return <span className="mono">{of.value}</span>;
  return (
    <Link className="mono" to={`/principals/${of.kind}/${encodeURIComponent(of.value)}`}>
      {principalText(of)}
    </Link>
  );
}

export function Copy({ text, label = "Copy" }: { text: string; label?: string }) {
  const [done, setDone] = useState(false);
  return (
    <Button
      className="icon small"
      aria-label={done ? "Copied" : label}
      onPress={() => {
        void navigator.clipboard?.writeText(text).then(() => {
          setDone(true);
          setTimeout(() => setDone(false), 1500);
        });
      }}
    >
      <Icon name={done ? "check" : "copy"} />
    </Button>
  );
}

/** Failure says what went wrong and offers to try again. */
export function Failure({ error, retry, what = "This cannot be shown" }: { error: unknown; retry?: () => void; what?: string }) {
  const p = error instanceof Problem ? error : null;
  return (
    <div className="failure" role="alert">
      <strong>{what}</strong>
      <p>{error instanceof Error ? error.message : String(error)}</p>
      {p?.requestId && p.status >= 500 && <p className="muted">Request {p.requestId}; weir's log has the cause under it.</p>}
      {retry && (
        <Button className="button" onPress={retry}>
          Try again
        </Button>
      )}
    </div>
  );
}

export function Loading({ what = "Loading" }: { what?: string }) {
  return (
    <p className="loading muted" role="status">
      {what} …
    </p>
  );
}

export function Section({ title, aside, children, id }: { title: string; aside?: ReactNode; children: ReactNode; id?: string }) {
  return (
    <section className="panel" id={id} aria-label={title}>
      <header>
        <h2>{title}</h2>
        {aside}
      </header>
      {children}
    </section>
  );
}

export function Facts({ children }: { children: ReactNode }) {
  return <dl className="facts">{children}</dl>;
}

export function Fact({ name, children }: { name: string; children: ReactNode }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}
