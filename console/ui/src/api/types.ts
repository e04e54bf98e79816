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

export type PrincipalPage = Omit<S["PrincipalPage"], "alerts"> & { alerts: Row[] };

export type EndpointRow = S["EndpointList"]["data"][number];

export type EndpointPage = Omit<S["EndpointPage"], "alerts"> & { alerts: Row[] };

export type Campaign = S["Campaign"];

export type CampaignPage = Omit<S["CampaignPage"], "members"> & { members: Row[] };

export type DetectorRow = S["DetectorList"]["data"][number];

export type Reader = S["ReaderList"]["data"][number];

export type SystemPage = S["System"];

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

export type Explanation = S["Explanation"];
export type Explained = S["Explained"];
export type ExplainedClient = S["ExplainedClient"];
export type ShadowCase = Omit<S["ShadowCase"], "exemplars"> & { exemplars: Alert["exemplars"] };
export type ApiToken = S["ApiToken"];
export type AlertRequest = S["AlertRequests"]["data"][number];
