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
