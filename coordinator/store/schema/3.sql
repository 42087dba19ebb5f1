-- A run outlives its coordinator: its inputs, its lease, and triggers that reject what no program may change.
-- The lists of ended states are those of domain/run/states.py; a test compares them.

ALTER TABLE runs ADD COLUMN inputs TEXT NOT NULL DEFAULT '{}';        -- what the request was resolved to: digests, ids
ALTER TABLE runs ADD COLUMN inventory TEXT NOT NULL DEFAULT '';       -- the file of hosts, '' for none
ALTER TABLE runs ADD COLUMN cancel_asked INTEGER NOT NULL DEFAULT 0;

CREATE TABLE leases (
    run_id  TEXT PRIMARY KEY REFERENCES runs (id) ON DELETE CASCADE,  -- one driver a run
    token   TEXT NOT NULL,
    holder  TEXT NOT NULL,
    pid     INTEGER NOT NULL,
    started TEXT NOT NULL,
    boot_id TEXT NOT NULL,
    beat_at REAL NOT NULL
) STRICT;

CREATE TRIGGER attempt_ended BEFORE UPDATE ON attempts
WHEN OLD.winning = 1 OR OLD.state IN ('failed', 'lost', 'cancelled')
BEGIN SELECT RAISE(ABORT, 'an attempt that has ended or won stays as it is'); END;

CREATE TRIGGER attempt_wins BEFORE UPDATE ON attempts
WHEN NEW.winning = 1 AND NEW.state <> 'pushed'
BEGIN SELECT RAISE(ABORT, 'only a pushed attempt wins'); END;

CREATE TRIGGER job_ended BEFORE UPDATE ON jobs
WHEN OLD.state IN ('verified', 'failed', 'lost', 'cancelled', 'skipped')
BEGIN SELECT RAISE(ABORT, 'a job that has ended stays as it is'); END;

CREATE TRIGGER job_verified BEFORE UPDATE ON jobs
WHEN NEW.state = 'verified' AND NEW.child IS NULL
BEGIN SELECT RAISE(ABORT, 'a verified job has a child'); END;

CREATE TRIGGER target_ended BEFORE UPDATE ON runs
WHEN OLD.target_state IN ('published', 'incomplete', 'conflict')
    AND (NEW.target_state <> OLD.target_state OR NEW.index_digest <> OLD.index_digest)
BEGIN SELECT RAISE(ABORT, 'a target that has ended stays as it is'); END;

CREATE TRIGGER target_published BEFORE UPDATE ON runs
WHEN NEW.target_state = 'published' AND NEW.index_digest = ''
BEGIN SELECT RAISE(ABORT, 'what is published has an index'); END;

CREATE TRIGGER run_finished BEFORE UPDATE ON runs
WHEN OLD.finished_at IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'a finished run stays as it is'); END;

CREATE TRIGGER run_finishes BEFORE UPDATE ON runs
WHEN NEW.finished_at IS NOT NULL AND EXISTS (SELECT 1 FROM leases WHERE run_id = NEW.id)
BEGIN SELECT RAISE(ABORT, 'nobody drives a finished run'); END;

CREATE TRIGGER target_undecided BEFORE UPDATE ON runs
WHEN NEW.finished_at IS NOT NULL AND NEW.target_state NOT IN ('published', 'incomplete', 'conflict')
BEGIN SELECT RAISE(ABORT, 'a run ends with its target'); END;

CREATE TRIGGER lease_of_finished BEFORE INSERT ON leases
WHEN (SELECT finished_at FROM runs WHERE id = NEW.run_id) IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'nobody drives a finished run'); END;

CREATE TRIGGER run_unfinished BEFORE DELETE ON runs
WHEN OLD.finished_at IS NULL
BEGIN SELECT RAISE(ABORT, 'only finished runs are deleted'); END;
