-- The requests log: one row a block, or a control record (then control is its
-- kind). Positions have no holes when written; AUTOINCREMENT keeps a position
-- from being used again after retention removed it.
CREATE TABLE request_blocks (
  position   INTEGER PRIMARY KEY AUTOINCREMENT,
  control    TEXT,
  source_id  INTEGER NOT NULL,
  cause_from INTEGER NOT NULL,
  cause_to   INTEGER NOT NULL,
  min_time   INTEGER NOT NULL,
  max_time   INTEGER NOT NULL,
  rows       INTEGER NOT NULL,
  bloom      BLOB,
  payload    BLOB NOT NULL
);
CREATE INDEX request_blocks_time ON request_blocks (max_time, position, min_time, rows);

CREATE TABLE source_cursors (
  source_id  INTEGER PRIMARY KEY,
  source     TEXT NOT NULL,
  cause_from INTEGER NOT NULL,
  cause_to   INTEGER NOT NULL,
  cursor     BLOB,
  requests   INTEGER NOT NULL,
  lines      INTEGER NOT NULL,
  rejected   INTEGER NOT NULL
);

-- minute counts minutes since the epoch.
CREATE TABLE request_minutes (
  minute       INTEGER NOT NULL,
  source_id    INTEGER NOT NULL,
  status_class INTEGER NOT NULL,
  requests     INTEGER NOT NULL,
  bytes        INTEGER NOT NULL,
  PRIMARY KEY (minute, source_id, status_class)
) WITHOUT ROWID;

CREATE TABLE stage_cursors (
  stage    TEXT PRIMARY KEY,
  position INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE findings (
  id              TEXT PRIMARY KEY,
  time            INTEGER NOT NULL,
  seq             INTEGER NOT NULL,
  detector        TEXT NOT NULL,
  principal_kind  TEXT NOT NULL,
  principal_value TEXT NOT NULL,
  body            BLOB NOT NULL
);
CREATE INDEX findings_time ON findings (time);

-- The feed. digest is of what a replay must repeat; latest marks the highest
-- revision of an id; time and first_time are the window's ends.
CREATE TABLE alerts (
  seq             INTEGER PRIMARY KEY AUTOINCREMENT,
  id              TEXT NOT NULL,
  revision        INTEGER NOT NULL,
  latest          INTEGER NOT NULL,
  first_time      INTEGER NOT NULL,
  time            INTEGER NOT NULL,
  detected_at     INTEGER NOT NULL,
  severity        TEXT NOT NULL,
  tier            TEXT NOT NULL,
  detector        TEXT NOT NULL,
  principal_kind  TEXT NOT NULL,
  principal_value TEXT NOT NULL,
  status          TEXT NOT NULL,
  backfill        INTEGER NOT NULL,
  digest          BLOB NOT NULL,
  body            BLOB NOT NULL,
  UNIQUE (id, revision)
);
CREATE INDEX alerts_latest ON alerts (seq) WHERE latest = 1;
CREATE INDEX alerts_time ON alerts (time) WHERE latest = 1;
CREATE INDEX alerts_principal ON alerts (principal_value, principal_kind) WHERE latest = 1;

CREATE TABLE editions (
  number    INTEGER PRIMARY KEY,
  effective INTEGER NOT NULL,
  body      BLOB NOT NULL
);

-- A chunk lives in one of two slots, and a checkpoint's manifest says which: a
-- new generation writes the slot that the one before does not use.
CREATE TABLE checkpoint_chunks (
  id   INTEGER NOT NULL,
  slot INTEGER NOT NULL,
  hash BLOB NOT NULL,
  data BLOB NOT NULL,
  PRIMARY KEY (id, slot)
);
CREATE TABLE checkpoint_manifest (
  one        INTEGER PRIMARY KEY CHECK (one = 1),
  generation INTEGER NOT NULL,
  manifest   BLOB NOT NULL,
  chunks     BLOB NOT NULL
);

CREATE TABLE sink_cursors (
  sink      TEXT PRIMARY KEY,
  seq       INTEGER NOT NULL,
  attempts  INTEGER NOT NULL,
  next_time INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE dead_letters (
  id       INTEGER PRIMARY KEY AUTOINCREMENT,
  sink     TEXT NOT NULL,
  seq      INTEGER NOT NULL,
  reason   TEXT NOT NULL,
  attempts BLOB,
  time     INTEGER NOT NULL,
  UNIQUE (sink, seq)
);

CREATE TABLE counters (
  name  TEXT PRIMARY KEY,
  value INTEGER NOT NULL
) WITHOUT ROWID;
