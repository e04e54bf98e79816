-- Where in the feed a time stands: when a revision was made, in event time.
CREATE INDEX alerts_changed ON alerts (max(time, detected_at), seq);

-- What senders were told about lines that came with a key, so that the same lines
-- are told the same and not kept again. time is the wall clock's.
CREATE TABLE receipts (
  id        INTEGER PRIMARY KEY AUTOINCREMENT,
  source_id INTEGER NOT NULL,
  key       BLOB NOT NULL,
  lines     BLOB NOT NULL,
  answer    BLOB NOT NULL,
  time      INTEGER NOT NULL,
  UNIQUE (source_id, key)
);
CREATE INDEX receipts_time ON receipts (time);
