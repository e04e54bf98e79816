// The evidence of an alert: what was seen against what is ordinary, and how the
// parts add up.
import type { Alert } from "../api/types";
import { dayOf, integer, odds } from "../lib/format";
import { amount, signalText } from "../lib/signals";

type Signal = Alert["signals"][number];

function baselineText(b: Signal["baseline"]): string {
  if (b.kind === "prior") return "against what weir ships with";
  const whose = { cohort: "ordinary clients here", own: "its own past" }[b.kind] ?? b.kind;
  return `against ${whose}${b.n ? ` (${integer(b.n)})` : ""}${b.since ? `, since ${dayOf(b.since)}` : ""}`;
}

/** Versus draws observed and expected on one scale. */
function Versus({ s }: { s: Signal }) {
  const top = Math.max(s.observed, s.expected, 1e-9);
  const w = (v: number) => Math.max(0.6, (v / top) * 100);
  return (
    <svg className="versus" viewBox="0 0 100 14" preserveAspectRatio="none" role="img" aria-label={`observed ${amount(s.name, s.observed)}, expected ${amount(s.name, s.expected)}`}>
      <rect className="observed" x="0" y="1" width={w(s.observed)} height="6" />
      <rect className="expected" x="0" y="9" width={w(s.expected)} height="4" />
    </svg>
  );
}

/** Sum draws how the signals add up, with the lines of review and page. */
function Sum({ alert }: { alert: Alert }) {
  const { nats, page_at: page, review_at: review } = alert.score;
  const top = Math.max(nats, page) * 1.06;
  let x = 0;
  const x100 = (v: number) => (v / top) * 100;
  return (
    <figure className="sum">
      <svg viewBox="0 0 100 16" preserveAspectRatio="none" role="img" aria-label={`The sum is ${nats.toFixed(1)} nats; review begins at ${review.toFixed(1)}, a page at ${page.toFixed(1)}.`}>
        <rect className="track" x="0" y="4" width="100" height="8" />
        {alert.signals
          .filter((s) => s.nats > 0)
          .map((s, i) => {
            const rect = <rect key={s.name} className={`part part-${i % 6}`} x={x100(x)} y="4" width={Math.max(0.2, x100(s.nats) - 0.15)} height="8" />;
            x += s.nats;
            return rect;
          })}
        <line className="mark" x1={x100(review)} x2={x100(review)} y1="1" y2="15" />
        <line className="mark page" x1={x100(page)} x2={x100(page)} y1="1" y2="15" />
      </svg>
      <figcaption>
        <span>
          Sum <strong>{nats.toFixed(1)} nats</strong>
        </span>
        <span className="muted">review at {review.toFixed(1)}</span>
        <span className="muted">page at {page.toFixed(1)}</span>
      </figcaption>
    </figure>
  );
}

export function Evidence({ alert }: { alert: Alert }) {
  return (
    <>
      <p>{odds(alert.score.odds.one_in, alert.score.odds.unit, alert.score.odds.basis)}</p>
      <table className="signals">
        <thead>
          <tr>
            <th scope="col">Signal</th>
            <th scope="col" className="num">
              Observed
            </th>
            <th scope="col" className="num">
              Expected
            </th>
            <th scope="col" className="wide-only">
              <span className="key observed" /> observed, <span className="key expected" /> expected
            </th>
            <th scope="col" className="num">
              Adds (nats)
            </th>
          </tr>
        </thead>
        <tbody>
          {alert.signals.map((s, i) => (
            <tr key={s.name}>
              <th scope="row">
                <span className={`key part-${i % 6}`} aria-hidden="true" /> <span title={s.name}>{signalText(s.name)}</span>
                <span className="second">{baselineText(s.baseline)}</span>
              </th>
              <td className="num strong">{amount(s.name, s.observed)}</td>
              <td className="num">{amount(s.name, s.expected)}</td>
              <td className="wide-only chart">
                <Versus s={s} />
              </td>
              <td className="num">
                {s.nats >= 0 ? "+" : "−"}
                {Math.abs(s.nats).toFixed(1)}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      <Sum alert={alert} />
      <details className="muted">
        <summary>What a nat is</summary>
        <p>
          Evidence is counted in nats: each says that this is 2.7 times likelier from an attacker than from a harmless client, and those of independent signals add up. At {alert.score.review_at.toFixed(1)} somebody should look some time, at{" "}
          {alert.score.page_at.toFixed(1)} somebody is woken.
        </p>
      </details>
    </>
  );
}
