// The shapes of the API. Where the OpenAPI document has them they are taken from
// it; the rest is what the console reads of newer answers.
import type { components } from "./schema";

type S = components["schemas"];

export type Alert = S["Alert"];
export type ApiRequest = S["Request"];
export type Blindspots = S["Blindspots"];
export type Severity = S["Severity"];
export type Principal = S["Principal"];
export type Verdict = Exclude<S["Verdict"], "">;
export type TriageStatus = "new" | "in_progress" | "closed";
export type Endpoint = { method: string; host: string; template: string };

export interface Comment {
  time: string;
  who: string;
  text: string;
}

export type Triage = S["Triage"];

/** Where comments are only counted. */
export type TriageRow = Omit<S["TriageRow"], "verdict"> & { verdict: Verdict | "" };
export type AnyTriage = Omit<TriageRow, "comments"> & { comments: number | Comment[] };

export interface TriageChange {
  status?: TriageStatus;
  assignee?: string;
  verdict?: Verdict | "";
  add_tags?: string[];
  remove_tags?: string[];
  comment?: string;
}

export type Row = Omit<S["AlertItem"], "triage"> & { triage: TriageRow };

export interface RowPage {
  data: Row[];
  more: boolean;
  next: string | null;
  total: { count: number; exact: boolean } | null;
}

export type Group = S["AlertGroups"]["data"][number];

export type BulkOutcome = Omit<S["BulkAnswer"]["data"][number], "triage" | "before"> & {
  triage: TriageRow | null;
  before: Omit<TriageChange, "add_tags" | "remove_tags" | "comment"> & { status: TriageStatus; assignee: string; verdict: Verdict | ""; tags: string[] } | null;
};

export type SessionState = S["SessionState"];

export type Me = S["Me"];

export interface Series {
  step_s: number;
  start: string;
  requests: number[];
  errors?: number[];
  statuses?: Record<string, number[]>;
}

export interface PrincipalPage {
  principal: Principal;
  since: string;
  until: string;
  complete: boolean;
  requests: number;
  bytes: number | null;
  first_seen: string | null;
  last_seen: string | null;
  statuses: Record<string, number>;
  series: Series;
  endpoints: (Endpoint & { requests: number; errors: number })[];
  addresses: { value: string; requests: number }[];
  agents: { value: string; requests: number }[];
  principals: (Principal & { requests: number })[];
  context: { asn: string; country: string; network: string; people: number[] | null } | null;
  alerts: Row[];
  alerts_total: number;
}

export interface EndpointRow extends Endpoint {
  requests: number;
  errors: number;
  bytes: number;
  alerts: number;
  last: string | null;
}

export interface EndpointPage {
  endpoint: Endpoint;
  since: string;
  until: string;
  requests: number;
  errors: number;
  bytes: number;
  statuses: Record<string, number>;
  series: Series;
  alerts: Row[];
  alerts_total: number;
  baseline: { edition: string; role: string; facts: { name: string; value: number; unit: string; text: string }[] } | null;
}

export interface Campaign {
  id: string;
  title: string;
  severity: Severity;
  detectors: string[];
  alerts: number;
  open: number;
  new: number;
  principals: number;
  requests: number;
  succeeded: number | null;
  first: string;
  last: string;
  endpoints: string[];
  campaign_alert: string | null;
}

export interface CampaignPage extends Campaign {
  members: Row[];
  timeline: { time: string; alert: string; kind: string; text: string }[];
}

export interface DetectorRow {
  name: string;
  mode: "on" | "shadow" | "off";
  title: string;
  doc: string;
  alerts: number;
  open: number;
  verdicts: Record<string, number>;
  closed: number;
  false_positive_rate: number | null;
  judged: number;
  knobs: { name: string; value: unknown; default: unknown; unit: string; text: string }[];
  attack: string[];
  owasp_api: string[];
  oat: string[];
  last: string | null;
  shadow_findings: number;
}

export type Reader = S["ReaderList"]["data"][number];

export interface SystemPage {
  version: string;
  config: string;
  edition: { number: number; effective: string; hash: string } | null;
  started: string;
  ready: boolean;
  waits_for: string[];
  detect: {
    through: string | null;
    lag_records: number;
    lag_s: number | null;
    position: number;
    late: number;
    skewed: number;
    duplicates: number;
    replay_differences: number;
  };
  state: { name: string; value: number; max: number | null }[];
  store: {
    path: string;
    bytes: number;
    file_bytes: number;
    max_bytes: number | null;
    disk_free: number | null;
    requests: number;
    oldest: string | null;
    newest: string | null;
    alerts: number;
    shed: number;
    reserve_armed: boolean;
  };
  sources: { source: string; requests: number; lines: number; rejected: number; lost: number; last_line: string | null }[];
  rejects: { reason: string; count: number }[];
  sinks: { name: string; kind: string; seq: number; behind: number; retries: number; dead_letters: number }[];
  readers: Reader[];
  traffic_per_s: number | null;
}

export type RevisionRow = S["RevisionList"]["data"][number];

export type Delivery = S["DeliveryList"]["data"][number];

export interface AuditEntry {
  seq: number;
  time: string;
  action: string;
  outcome: string;
  who: { kind: string; id: string; name: string; roles: string[] };
  reason: string;
  before: unknown;
  after: unknown;
  request_id: string;
  target?: { kind: string; ids: string[] } | null;
}

export type Related = Omit<S["RelatedAlerts"]["data"][number], "alert"> & { alert: Row };
