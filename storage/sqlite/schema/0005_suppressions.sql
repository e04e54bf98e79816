-- Suppressions, also those that ended: one JSON object each, as the log has it.
CREATE TABLE suppressions (
  id      TEXT PRIMARY KEY,
  created INTEGER NOT NULL,
  ends    INTEGER NOT NULL,
  body    BLOB NOT NULL
) WITHOUT ROWID;

-- Which alerts each of them kept from sinks.
CREATE TABLE suppressed_alerts (
  suppression TEXT NOT NULL,
  alert       TEXT NOT NULL,
  PRIMARY KEY (suppression, alert)
) WITHOUT ROWID;
CREATE INDEX suppressed_alerts_alert ON suppressed_alerts (alert);
CREATE TRIGGER suppressed_removed AFTER DELETE ON alerts WHEN OLD.latest = 1 BEGIN
  DELETE FROM suppressed_alerts WHERE alert = OLD.id;
END;
