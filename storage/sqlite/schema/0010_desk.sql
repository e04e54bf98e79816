-- Of the console of a fleet: how far it has followed a topic, and which desk of the
-- fleet's this file is.
CREATE TABLE followed (
  topic TEXT PRIMARY KEY,
  next  INTEGER NOT NULL,
  fence INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE desk (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  id  TEXT NOT NULL
);
