-- Who signs in. hash is of the password, slow and salted; subject is the issuer
-- and the subject of somebody whom an OpenID provider vouches for. Times are
-- microseconds since the epoch, 0 for never.
CREATE TABLE users (
  name     TEXT PRIMARY KEY COLLATE NOCASE,
  display  TEXT NOT NULL,
  kind     TEXT NOT NULL,
  subject  TEXT NOT NULL,
  roles    TEXT NOT NULL,
  hash     TEXT NOT NULL,
  disabled INTEGER NOT NULL,
  creator  TEXT NOT NULL,
  created  INTEGER NOT NULL,
  seen     INTEGER NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX users_subject ON users (subject) WHERE subject <> '';

-- Signed-in browsers. mac is of the cookie under the deployment's pepper; the
-- cookie itself is nowhere.
CREATE TABLE sessions (
  id      TEXT PRIMARY KEY,
  mac     BLOB NOT NULL,
  user    TEXT NOT NULL COLLATE NOCASE,
  created INTEGER NOT NULL,
  seen    INTEGER NOT NULL,
  ends    INTEGER NOT NULL,
  address TEXT NOT NULL,
  agent   TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX sessions_user ON sessions (user, created);

-- The link by which the first administrator comes in.
CREATE TABLE first_link (
  one  INTEGER PRIMARY KEY CHECK (one = 1),
  mac  BLOB NOT NULL,
  ends INTEGER NOT NULL
);

-- The desk: one row an alert, for lists. What has few values is one number, the
-- facet: filters look at the few facets first, and their counts are totals.
-- severity is 0 (info) to 4 (critical); triage '' stands for nobody's yet.
CREATE TABLE alert_facets (
  id         INTEGER PRIMARY KEY,
  severity   INTEGER NOT NULL,
  status     TEXT NOT NULL,
  tier       TEXT NOT NULL,
  detector   TEXT NOT NULL,
  triage     TEXT NOT NULL,
  verdict    TEXT NOT NULL,
  assignee   TEXT NOT NULL,
  suppressed INTEGER NOT NULL,
  backfill   INTEGER NOT NULL,
  labels     TEXT NOT NULL,
  alerts     INTEGER NOT NULL DEFAULT 0,
  UNIQUE (severity, status, tier, detector, triage, verdict, assignee, suppressed, backfill, labels)
);

-- seq is that of the latest revision in the feed; score is in thousandths of a
-- nat; principal is KIND:VALUE; endpoint is METHOD HOST TEMPLATE.
CREATE TABLE alert_list (
  n          INTEGER PRIMARY KEY AUTOINCREMENT,
  id         TEXT NOT NULL UNIQUE,
  seq        INTEGER NOT NULL,
  facet      INTEGER NOT NULL,
  first_time INTEGER NOT NULL,
  time       INTEGER NOT NULL,
  score      INTEGER NOT NULL,
  principal  TEXT NOT NULL,
  endpoint   TEXT NOT NULL,
  campaign   TEXT NOT NULL
);
CREATE INDEX alert_list_seq ON alert_list (seq, facet, time, first_time);
CREATE INDEX alert_list_facet ON alert_list (facet, seq, time, first_time);
CREATE INDEX alert_list_score ON alert_list (score, seq, facet, time, first_time);
CREATE INDEX alert_list_facet_score ON alert_list (facet, score, seq);
CREATE INDEX alert_list_time ON alert_list (time, first_time, facet, seq, score);
CREATE INDEX alert_list_first ON alert_list (first_time, time, facet, seq, score);
CREATE INDEX alert_list_principal ON alert_list (principal, seq, facet, time, first_time, score);
CREATE INDEX alert_list_endpoint ON alert_list (endpoint, seq, facet, time, first_time, score);
CREATE INDEX alert_list_campaign ON alert_list (campaign, seq, facet, time, first_time, score) WHERE campaign <> '';
CREATE TABLE alert_tags (
  tag TEXT NOT NULL,
  n   INTEGER NOT NULL,
  PRIMARY KEY (tag, n)
) WITHOUT ROWID;
CREATE INDEX alert_tags_n ON alert_tags (n);
CREATE TABLE alert_addresses (
  address TEXT NOT NULL,
  n       INTEGER NOT NULL,
  PRIMARY KEY (address, n)
) WITHOUT ROWID;
CREATE INDEX alert_addresses_n ON alert_addresses (n);
CREATE VIRTUAL TABLE alert_text USING fts5 (text, content = '', contentless_delete = 1);

CREATE TRIGGER alert_list_in AFTER INSERT ON alert_list BEGIN
  UPDATE alert_facets SET alerts = alerts + 1 WHERE id = NEW.facet;
END;
CREATE TRIGGER alert_list_moved AFTER UPDATE OF facet ON alert_list WHEN OLD.facet <> NEW.facet BEGIN
  UPDATE alert_facets SET alerts = alerts - 1 WHERE id = OLD.facet;
  UPDATE alert_facets SET alerts = alerts + 1 WHERE id = NEW.facet;
  DELETE FROM alert_facets WHERE id = OLD.facet AND alerts = 0;
END;
CREATE TRIGGER alert_list_out AFTER DELETE ON alert_list BEGIN
  UPDATE alert_facets SET alerts = alerts - 1 WHERE id = OLD.facet;
  DELETE FROM alert_facets WHERE id = OLD.facet AND alerts = 0;
  DELETE FROM alert_tags WHERE n = OLD.n;
  DELETE FROM alert_addresses WHERE n = OLD.n;
  DELETE FROM alert_text WHERE rowid = OLD.n;
END;
CREATE TRIGGER alert_list_removed AFTER DELETE ON alerts WHEN OLD.latest = 1 BEGIN
  DELETE FROM alert_list WHERE id = OLD.id;
END;

-- What is stored already. The service writes the same, row by row.
CREATE TEMP VIEW listed AS
  SELECT a.seq, a.id, a.first_time, a.time, a.severity, a.status, a.tier, a.detector, a.backfill,
    a.principal_kind || ':' || a.principal_value AS principal, CAST(a.body AS TEXT) AS body,
    CASE WHEN json_valid(CAST(t.body AS TEXT)) THEN CAST(t.body AS TEXT) END AS triage
  FROM alerts a LEFT JOIN triage t ON t.id = a.id WHERE a.latest = 1 ORDER BY a.seq;
CREATE TEMP VIEW listing AS
  SELECT seq, id, first_time, time, principal, body,
    CASE severity WHEN 'low' THEN 1 WHEN 'medium' THEN 2 WHEN 'high' THEN 3 WHEN 'critical' THEN 4 ELSE 0 END AS severity,
    status, tier, detector, coalesce(json_extract(triage, '$.status'), 'new') AS triage, coalesce(json_extract(triage, '$.verdict'), '') AS verdict,
    coalesce(json_extract(triage, '$.assignee'), '') AS assignee, (coalesce(json_extract(body, '$.envelope.silence.id'), '') <> '' AND coalesce(json_extract(body, '$.envelope.silence.silent'), 0)) AS suppressed,
    backfill, coalesce(json_extract(body, '$.labels'), '{}') AS labels, coalesce(json_extract(triage, '$.tags'), '[]') AS tags,
    CAST(coalesce(json_extract(body, '$.score.nats'), 0) * 1000 AS INTEGER) AS score, coalesce(json_extract(body, '$.campaign'), '') AS campaign,
    json_extract(body, '$.endpoint.method') || ' ' || json_extract(body, '$.endpoint.host') || ' ' || json_extract(body, '$.endpoint.template') AS endpoint
  FROM listed;
INSERT OR IGNORE INTO alert_facets (severity, status, tier, detector, triage, verdict, assignee, suppressed, backfill, labels)
  SELECT severity, status, tier, detector, triage, verdict, assignee, suppressed, backfill, labels FROM listing;
INSERT INTO alert_list (id, seq, facet, first_time, time, score, principal, endpoint, campaign)
  SELECT l.id, l.seq, f.id, l.first_time, l.time, l.score, l.principal, l.endpoint, l.campaign
  FROM listing l JOIN alert_facets f USING (severity, status, tier, detector, triage, verdict, assignee, suppressed, backfill, labels) ORDER BY l.seq;
INSERT OR IGNORE INTO alert_tags (tag, n) SELECT j.value, a.n FROM listing l JOIN alert_list a USING (id), json_each(l.tags) j;
INSERT OR IGNORE INTO alert_addresses (address, n) SELECT j.value, a.n FROM listing l JOIN alert_list a USING (id), json_each(l.body, '$.addresses') j;
INSERT INTO alert_text (rowid, text)
  SELECT a.n, json_extract(l.body, '$.title') || char(10) || json_extract(l.body, '$.reason') || char(10) || l.principal || char(10) || l.endpoint || char(10) ||
    l.detector || char(10) || l.id || char(10) || l.campaign || char(10) || l.labels || char(10) ||
    (SELECT coalesce(group_concat(value, ' '), '') FROM json_each(l.tags))
  FROM listing l JOIN alert_list a USING (id);
DROP VIEW listing;
DROP VIEW listed;

-- change is the seq of the audit's entry of a triage: the order of changes.
ALTER TABLE triage ADD COLUMN change INTEGER NOT NULL DEFAULT 0;
CREATE INDEX triage_change ON triage (change);

-- Which entries of the audit are about an alert.
CREATE TABLE audit_alerts (
  alert TEXT NOT NULL,
  seq   INTEGER NOT NULL,
  PRIMARY KEY (alert, seq)
) WITHOUT ROWID;
CREATE INDEX audit_alerts_seq ON audit_alerts (seq);
CREATE TRIGGER audit_alerts_removed AFTER DELETE ON audit BEGIN
  DELETE FROM audit_alerts WHERE seq = OLD.seq;
END;
INSERT OR IGNORE INTO audit_alerts (alert, seq)
  SELECT j.value, a.seq FROM audit a, json_each(CAST(a.body AS TEXT), '$.target.ids') j
  WHERE json_valid(CAST(a.body AS TEXT)) AND json_extract(CAST(a.body AS TEXT), '$.target.kind') = 'alert';

-- Traffic by minute and endpoint, for charts: rolled up from the log behind
-- detection. Endpoint 0 is what is past the bounds.
CREATE TABLE endpoints (
  id       INTEGER PRIMARY KEY,
  method   TEXT NOT NULL,
  host     TEXT NOT NULL,
  template TEXT NOT NULL,
  UNIQUE (method, host, template)
);
INSERT INTO endpoints (id, method, host, template) VALUES (0, '', '', '');
CREATE TABLE endpoint_minutes (
  endpoint     INTEGER NOT NULL,
  minute       INTEGER NOT NULL,
  status_class INTEGER NOT NULL,
  requests     INTEGER NOT NULL,
  bytes        INTEGER NOT NULL,
  PRIMARY KEY (endpoint, minute, status_class)
) WITHOUT ROWID;
CREATE INDEX endpoint_minutes_time ON endpoint_minutes (minute);
