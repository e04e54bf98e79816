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

export interface Triage {
  revision: number;
  status: TriageStatus;
  assignee: string;
  verdict: Verdict | "";
  tags: string[];
  comments: Comment[];
  time: string | null;
  who: string;
}

/** Where comments are only counted. */
export type TriageRow = Omit<Triage, "comments"> & { comments: number };
export type AnyTriage = Omit<Triage, "comments"> & { comments: number | Comment[] };

export interface TriageChange {
  status?: TriageStatus;
  assignee?: string;
  verdict?: Verdict | "";
  add_tags?: string[];
  remove_tags?: string[];
  comment?: string;
}

export interface Row {
  id: string;
  seq: number;
  revision: number;
  status: "open" | "resolved";
  severity: Severity;
  tier: string;
  detector: string;
  title: string;
  reason: string;
  level: string;
  principal: Principal;
  endpoint: Endpoint;
  campaign: string;
  first: string;
  last: string;
  detected_at: string;
  ongoing: boolean;
  score: number;
  requests: number;
  succeeded: number | null;
  accounts: number | null;
  objects: number;
  addresses_total: number;
  members_total: number;
  network: string;
  country: string;
  labels: Record<string, string>;
  change: { kind: string; text: string };
  suppressed: boolean;
  backfill: boolean;
  triage: TriageRow;
}

export interface RowPage {
  data: Row[];
  more: boolean;
  next: string | null;
  total?: { count: number; exact: boolean } | null;
}

export interface Group {
  key: string;
  filter: Record<string, string> | null;
  count: number;
  open: number;
  new: number;
  severity: Severity;
  latest: { id: string; seq: number; title: string; last: string };
}

export interface BulkOutcome {
  id: string;
  outcome: "changed" | "unchanged" | "stale" | "not_found" | "invalid";
  detail: string;
  triage: TriageRow | null;
  before: { status: TriageStatus; assignee: string; verdict: Verdict | ""; tags: string[] } | null;
}

export interface SessionState {
  session: { id: string; user: string; display: string; kind: string; roles: string[]; csrf: string; ends: string } | null;
  local: boolean;
  first: boolean;
  ways: { password: boolean; oidc: { name: string; href: string } | null };
  password?: { min: number; max: number };
}

export interface Me {
  kind: string;
  id: string;
  name: string;
  roles: string[];
  may: string[];
}

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

export interface Reader {
  [key: string]: unknown;
}

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

export interface RevisionRow {
  revision: number;
  seq: number;
  time: string;
  status: string;
  severity: Severity;
  change: { kind: string; text: string };
  score: number;
  requests: number;
  succeeded: number | null;
  reason: string;
}

export interface Delivery {
  sink: string;
  kind: string;
  state: "delivered" | "waiting" | "retrying" | "dead" | "not_routed" | "history";
  revision: number;
  attempts: number;
  next: string | null;
  reason: string;
  time: string | null;
}

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

export interface Related {
  why: string[];
  alert: Row;
}
