// What an alert is called in the catalogues, and what it rests on.
import type { Alert } from "../api/types";
import { integer } from "../lib/format";
import { classText } from "../lib/names";
import { Link } from "../lib/router";
import { Copy, Fact, Facts, Section } from "../ui/bits";

export function Classes({ a }: { a: Alert }) {
  const lists: [string, string[]][] = [
    ["MITRE ATT&CK", a.attack],
    ["OWASP API Security", a.owasp_api],
    ["OWASP automated threats", a.oat],
  ];
  return (
    <Section title="Classification">
      <Facts>
        <Fact name="Detector">
          <Link to={`/detectors?name=${a.detector}`}>{a.detector}</Link>
        </Fact>
        {lists.map(
          ([name, ids]) =>
            ids.length > 0 && (
              <Fact key={name} name={name}>
                {ids.map((id) => (
                  <div key={id}>
                    <span className="mono">{id}</span> {classText(id)}
                  </div>
                ))}
              </Fact>
            ),
        )}
        {Object.entries(a.labels)
          .filter(([, v]) => v)
          .map(([k, v]) => (
            <Fact key={k} name={k}>
              {v}
            </Fact>
          ))}
        {a.context.agents.length > 0 && (
          <Fact name="User agents">
            {a.context.agents.map((x) => (
              <div key={x} className="mono break">
                {x}
              </div>
            ))}
          </Fact>
        )}
        {a.context.ja4.length > 0 && (
          <Fact name="JA4">
            {a.context.ja4.map((x) => (
              <div key={x} className="mono break">
                {x}
              </div>
            ))}
          </Fact>
        )}
        <Fact name="Identity by">{a.quality.identity}</Fact>
        {(a.quality.sampled !== 1 || a.quality.late > 0 || a.quality.lost > 0) && (
          <Fact name="Quality">
            {a.quality.sampled !== 1 && `sampled at ${a.quality.sampled}; `}
            {a.quality.late > 0 && `${integer(a.quality.late)} late; `}
            {a.quality.lost > 0 && `${integer(a.quality.lost)} lost`}
          </Fact>
        )}
      </Facts>
      <details className="muted">
        <summary>Versions and id</summary>
        <p className="mono break">
          {a.id}.{a.revision} <Copy text={a.id} label="Copy the alert's id" />
          <br />
          weir {a.versions.weir}
          <br />
          {a.versions.config}
          <br />
          {a.versions.edition}
        </p>
      </details>
    </Section>
  );
}
