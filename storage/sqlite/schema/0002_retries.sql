-- Alerts that a sink did not take and that are tried again apart from the
-- others. next_time is in microseconds since the epoch.
CREATE TABLE sink_retries (
  sink      TEXT NOT NULL,
  seq       INTEGER NOT NULL,
  attempts  INTEGER NOT NULL,
  next_time INTEGER NOT NULL,
  PRIMARY KEY (sink, seq)
) WITHOUT ROWID;
CREATE INDEX sink_retries_due ON sink_retries (sink, next_time);
