-- The highest seq that retention or erasure took out of the feed: a reader that
-- has not come so far has missed something.
CREATE TRIGGER alerts_removed AFTER DELETE ON alerts BEGIN
  INSERT INTO counters (name, value) VALUES ('alerts_removed', OLD.seq)
    ON CONFLICT DO UPDATE SET value = max(value, excluded.value);
END;

-- API tokens. mac is of the token under the deployment's pepper; the token
-- itself is nowhere. Times are microseconds since the epoch, 0 for never.
CREATE TABLE tokens (
  id      TEXT PRIMARY KEY,
  name    TEXT NOT NULL,
  mac     BLOB NOT NULL,
  roles   TEXT NOT NULL,
  creator TEXT NOT NULL,
  created INTEGER NOT NULL,
  expires INTEGER NOT NULL,
  revoked INTEGER NOT NULL,
  used    INTEGER NOT NULL
) WITHOUT ROWID;

-- How far each reader of a feed has confirmed to have come.
CREATE TABLE feed_readers (
  feed   TEXT NOT NULL,
  reader TEXT NOT NULL,
  seq    INTEGER NOT NULL,
  time   INTEGER NOT NULL,
  PRIMARY KEY (feed, reader)
) WITHOUT ROWID;

-- Who did what. hash is the SHA-256 of prev in hex, the seq and the body, a
-- line's end between them; prev is the hash of the row before, zeros for the
-- first. Rows never change, and only retention removes some, the oldest first.
CREATE TABLE audit (
  seq  INTEGER PRIMARY KEY AUTOINCREMENT,
  time INTEGER NOT NULL,
  prev BLOB NOT NULL,
  hash BLOB NOT NULL,
  body BLOB NOT NULL
);
CREATE INDEX audit_time ON audit (time);
CREATE TRIGGER audit_unchanged BEFORE UPDATE ON audit BEGIN
  SELECT RAISE(ABORT, 'the audit is append-only');
END;
CREATE TRIGGER audit_removed AFTER DELETE ON audit BEGIN
  INSERT INTO counters (name, value) VALUES ('audit_removed', OLD.seq)
    ON CONFLICT DO UPDATE SET value = max(value, excluded.value);
END;
