-- What people made of an alert: one JSON object, whose revision grows with each
-- change. It goes with its alert.
CREATE TABLE triage (
  id       TEXT PRIMARY KEY,
  revision INTEGER NOT NULL,
  body     BLOB NOT NULL
) WITHOUT ROWID;
CREATE TRIGGER triage_removed AFTER DELETE ON alerts WHEN OLD.latest = 1 BEGIN
  DELETE FROM triage WHERE id = OLD.id;
END;
