// One line of the list.
import { memo } from "react";
import type { Row } from "../api/types";
import { duration, integer, plural, principalText, shortTokens } from "../lib/format";
import { Link } from "../lib/router";
import { SeverityMark, Time, TriageMark } from "../ui/bits";

/** successText says whether it worked; what is not known is said to be so. */
export function successText(r: { succeeded: number | null; detector: string }): string {
  if (r.succeeded === null) return "success not known";
  if (r.succeeded === 0) return "none succeeded";
  return `${integer(r.succeeded)} succeeded`;
}

/** successClass marks a success where it is bad news: a page that was served is none. */
export function successClass(r: { succeeded: number | null; severity: string }): string {
  if (r.succeeded === null) return "unknown";
  return r.succeeded > 0 && (r.severity === "high" || r.severity === "critical") ? "worked" : "";
}

export function sizeText(r: Row): string {
  const parts = [plural(r.requests, "request")];
  if (r.accounts) parts.unshift(plural(r.accounts, "account"));
  else if (r.objects) parts.unshift(plural(r.objects, "object"));
  return parts.join(", ");
}

/** goingOn: of what was seen long ago nobody can say that it is active. */
export function goingOn(r: { ongoing: boolean; last: string }) {
  if (!r.ongoing) return "quiet";
  if (Date.now() - Date.parse(r.last) > 86_400_000) return "active then";
  return <span className="active">active</span>;
}

interface Props {
  row: Row;
  index: number;
  top: number;
  height: number;
  cursor: boolean;
  selected: boolean;
  onSelect: (index: number, extend: boolean) => void;
  onCursor: (index: number) => void;
}

export const ListRow = memo(function ListRow({ row, index, top, height, cursor, selected, onSelect, onCursor }: Props) {
  const span = (Date.parse(row.last) - Date.parse(row.first)) / 1000;
  return (
    <div
      role="row"
      id={`row-${row.id}`}
      aria-rowindex={index + 2}
      aria-selected={selected}
      className={`row${cursor ? " cursor" : ""}${selected ? " selected" : ""}${row.triage.status === "closed" ? " closed" : ""}`}
      style={{ transform: `translateY(${top}px)`, height }}
      onMouseDown={() => onCursor(index)}
    >
      <div role="gridcell" className="c-check">
        <span role="checkbox" tabIndex={-1} className="hit" aria-checked={selected} aria-label={`Select: ${row.title}`} onClick={(e) => onSelect(index, e.shiftKey)}>
          <span className="box" />
        </span>
      </div>
      <div role="gridcell" className="c-sev">
        <SeverityMark of={row.severity} />
      </div>
      <div role="gridcell" className="c-main">
        <Link to={`/alerts/${row.id}`} tabIndex={-1} className="title" title={row.title}>
          {shortTokens(row.title)}
        </Link>
        <div className="second" title={row.reason}>
          {row.suppressed && <span className="flag">suppressed</span>}
          {row.backfill && <span className="flag" title="Found in what was there before weir started; not sent to any sink">history</span>}
          {row.triage.tags.map((t) => (
            <span key={t} className="flag tag">
              {t}
            </span>
          ))}
          {shortTokens(row.reason)}
        </div>
      </div>
      <div role="gridcell" className="c-who mono" title={principalText(row.principal)}>
        {row.principal.kind === "endpoint" ? <span className="muted">many</span> : principalText(row.principal)}
        <div className="second">
          {[row.members_total > 1 ? plural(row.members_total, "member") : row.addresses_total > 1 ? plural(row.addresses_total, "address", "addresses") : "", row.network, row.country].filter(Boolean).join(" · ")}
        </div>
      </div>
      <div role="gridcell" className="c-outcome">
        <span className={successClass(row)}>{successText(row)}</span>
        <div className="second">{sizeText(row)}</div>
      </div>
      <div role="gridcell" className="c-time">
        <Time at={row.last} relative />
        <div className="second">
          {goingOn(row)}, over {duration(span)}
        </div>
      </div>
      <div role="gridcell" className="c-triage">
        <TriageMark status={row.triage.status} verdict={row.triage.verdict} />
        <div className="second">
          {row.triage.assignee || "nobody"}
          {row.triage.comments > 0 && ` · ${plural(row.triage.comments, "comment")}`}
        </div>
      </div>
    </div>
  );
});
