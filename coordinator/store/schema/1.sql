-- Everything that outlives a coordinator. Times are epoch seconds; JSON is text.
-- One migration: PRAGMA user_version is the number of the last one. IF NOT EXISTS: two first starts may be concurrent.

CREATE TABLE IF NOT EXISTS runs (
    id           TEXT PRIMARY KEY,
    created_at   REAL NOT NULL,
    finished_at  REAL,
    exit_code    INTEGER,
    request      TEXT NOT NULL,                  -- what was asked, enough to ask it again
    target_state TEXT NOT NULL DEFAULT 'open',
    index_digest TEXT NOT NULL DEFAULT ''
) STRICT;

CREATE TABLE IF NOT EXISTS jobs (
    id       INTEGER PRIMARY KEY,
    run_id   TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    platform TEXT NOT NULL,
    state    TEXT NOT NULL DEFAULT 'pending',
    build_id TEXT NOT NULL,
    reused   INTEGER NOT NULL DEFAULT 0,
    child    TEXT,                               -- the verified child, once there is one
    UNIQUE (run_id, platform)
) STRICT;

CREATE TABLE IF NOT EXISTS attempts (
    id         INTEGER PRIMARY KEY,
    job_id     INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    number     INTEGER NOT NULL,
    host       TEXT NOT NULL,
    mode       TEXT NOT NULL,
    state      TEXT NOT NULL DEFAULT 'assigned',
    code       TEXT NOT NULL DEFAULT '',         -- why it ended, where it ended badly
    message    TEXT NOT NULL DEFAULT '',
    digest     TEXT NOT NULL DEFAULT '',         -- as the broker saw it
    winning    INTEGER NOT NULL DEFAULT 0,
    started_at REAL NOT NULL,
    ended_at   REAL,
    UNIQUE (job_id, number)
) STRICT;

-- A job may have several attempts at a time; only one may win.
CREATE UNIQUE INDEX IF NOT EXISTS one_winner ON attempts (job_id) WHERE winning = 1;

CREATE TABLE IF NOT EXISTS tags (
    run_id    TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    reference TEXT NOT NULL,
    previous  TEXT NOT NULL,                     -- the digest it had before this run, '' when it had none
    moved     INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (run_id, reference)
) STRICT;

CREATE TABLE IF NOT EXISTS events (
    id     INTEGER PRIMARY KEY,
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    at     REAL NOT NULL,
    what   TEXT NOT NULL,                        -- 'job arm64 pending assign active'
    data   TEXT NOT NULL DEFAULT '{}'
) STRICT;

CREATE INDEX IF NOT EXISTS events_of_run ON events (run_id, id);
