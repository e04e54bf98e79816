-- Open alerts that a sink was told of, where it shows several as one thing or is
-- told again. grp is the group that an alert stays in, seq the revision told last,
-- next_time when it is to be told again, in microseconds since the epoch, 0 never.
CREATE TABLE sink_told (
  sink      TEXT NOT NULL,
  alert     TEXT NOT NULL,
  grp       TEXT NOT NULL,
  seq       INTEGER NOT NULL,
  next_time INTEGER NOT NULL,
  repeats   INTEGER NOT NULL,
  PRIMARY KEY (sink, alert)
) WITHOUT ROWID;

-- Groups of them: what their alerts have in common, as JSON, and where a sink
-- keeps its messages together.
CREATE TABLE sink_groups (
  sink   TEXT NOT NULL,
  grp    TEXT NOT NULL,
  common TEXT NOT NULL,
  thread TEXT NOT NULL,
  PRIMARY KEY (sink, grp)
) WITHOUT ROWID;
