-- queries.py loads each query by the name above it.

-- name: insert_run
INSERT INTO runs (id, created_at, request, inputs, inventory) VALUES (:id, :at, :request, :inputs, :inventory);

-- name: insert_job
INSERT INTO jobs (run_id, platform, build_id) VALUES (:run_id, :platform, :build_id);

-- name: insert_tag
-- The first digest is kept: a resumed run must not take its own new digest for the previous one.
INSERT INTO tags (run_id, reference, previous) VALUES (:run_id, :reference, :previous)
ON CONFLICT (run_id, reference) DO NOTHING;

-- name: count_attempts
SELECT count(*) AS count FROM attempts WHERE job_id = :job_id;

-- name: insert_attempt
INSERT INTO attempts (job_id, number, host, mode, agent_job, started_at)
VALUES (:job_id, :number, :host, :mode, :agent_job, :at)
RETURNING *;

-- name: insert_event
INSERT INTO events (run_id, at, what, data) VALUES (:run_id, :at, :what, :data);

-- name: take_lease
INSERT INTO leases (run_id, token, holder, pid, started, boot_id, beat_at)
VALUES (:run_id, :token, :holder, :pid, :started, :boot_id, :at)
ON CONFLICT (run_id) DO UPDATE SET
    token = excluded.token, holder = excluded.holder, pid = excluded.pid, started = excluded.started,
    boot_id = excluded.boot_id, beat_at = excluded.beat_at;

-- name: beat
UPDATE leases SET beat_at = :at WHERE run_id = :run_id;

-- name: end_lease
DELETE FROM leases WHERE run_id = :run_id;

-- name: lease
SELECT * FROM leases WHERE run_id = :run_id;

-- name: run
SELECT * FROM runs WHERE id = :id;

-- name: runs_by_prefix
SELECT id FROM runs WHERE substr(id, 1, length(:prefix)) = :prefix ORDER BY rowid DESC LIMIT :limit;

-- name: recent_runs
-- By rowid, the order of creation: created_at may decrease where the clock is set back. LIMIT -1 is no limit.
SELECT id FROM runs ORDER BY rowid DESC LIMIT coalesce(:limit, -1);

-- name: newest_unfinished
SELECT id FROM runs WHERE finished_at IS NULL ORDER BY rowid DESC LIMIT 1;

-- name: all_runs
SELECT * FROM runs ORDER BY rowid DESC;

-- name: runs_before
SELECT * FROM runs WHERE rowid < (SELECT rowid FROM runs WHERE id = :id) ORDER BY rowid DESC;

-- name: events_of_run
SELECT at, what, data FROM events WHERE run_id = :run_id ORDER BY id;

-- name: jobs_of_run
SELECT * FROM jobs WHERE run_id = :run_id ORDER BY id;

-- name: attempts_of_run
SELECT attempts.*, jobs.run_id, jobs.platform
FROM attempts JOIN jobs ON jobs.id = attempts.job_id WHERE jobs.run_id = :run_id ORDER BY attempts.number;

-- name: kept_attempts
-- What runs that have ended left on its host, built from the same inputs; the newest first.
SELECT attempts.*, jobs.run_id, jobs.platform
FROM attempts JOIN jobs ON jobs.id = attempts.job_id JOIN runs ON runs.id = jobs.run_id
WHERE jobs.build_id = :build_id AND jobs.platform = :platform AND attempts.state = 'built'
    AND runs.finished_at IS NOT NULL
ORDER BY attempts.id DESC;

-- name: drop_kept
-- Their image is published now, or is one that was: its hosts may delete it.
UPDATE attempts SET state = 'cancelled', message = 'published by run ' || :run_id, ended_at = :at
WHERE state = 'built' AND job_id IN (
    SELECT jobs.id FROM jobs JOIN runs ON runs.id = jobs.run_id JOIN jobs AS verified ON verified.id = :job_id
    WHERE jobs.build_id = verified.build_id AND jobs.platform = verified.platform AND runs.finished_at IS NOT NULL
);

-- name: attempts_by_agent_job
SELECT attempts.state, attempts.winning, jobs.run_id
FROM attempts JOIN jobs ON jobs.id = attempts.job_id WHERE attempts.agent_job = :agent_job;

-- name: tags_of_run
SELECT * FROM tags WHERE run_id = :run_id ORDER BY rowid;

-- name: job_state
SELECT state, platform, run_id FROM jobs WHERE id = :id;

-- name: attempt_state
SELECT attempts.state, attempts.number, attempts.winning, attempts.job_id, jobs.platform, jobs.run_id
FROM attempts JOIN jobs ON jobs.id = attempts.job_id WHERE attempts.id = :id;

-- name: set_job_state
UPDATE jobs SET state = :state, child = coalesce(:child, child), reused = :reused WHERE id = :id;

-- name: set_attempt_state
UPDATE attempts
SET state = :state, code = :code, message = :message, digest = coalesce(nullif(:digest, ''), digest), ended_at = :ended_at
WHERE id = :id;

-- name: set_winner
UPDATE attempts SET winning = 1 WHERE id = :id;

-- name: set_target_state
UPDATE runs SET target_state = :state, index_digest = coalesce(nullif(:digest, ''), index_digest) WHERE id = :id;

-- name: set_tag_moved
UPDATE tags SET moved = 1 WHERE run_id = :run_id AND reference = :reference;

-- name: ask_cancel
UPDATE runs SET cancel_asked = 1 WHERE id = :id AND finished_at IS NULL AND cancel_asked = 0;

-- name: finish_run
UPDATE runs SET finished_at = :at, exit_code = :exit_code WHERE id = :id;

-- name: delete_run
DELETE FROM runs WHERE id = :id AND finished_at IS NOT NULL;

-- name: sightings
SELECT * FROM facts;

-- name: record_probe
INSERT INTO facts (host, address, seen_at, round_trip, machine, observation)
VALUES (:host, :address, :seen_at, :round_trip, :machine, :observation)
ON CONFLICT (host, address) DO UPDATE SET
    seen_at = excluded.seen_at, round_trip = excluded.round_trip, machine = excluded.machine,
    observation = excluded.observation, silent_at = NULL, message = '', hint = '';

-- name: record_silence
INSERT INTO facts (host, address, silent_at, message, hint) VALUES (:host, :address, :at, :message, :hint)
ON CONFLICT (host, address) DO UPDATE SET
    silent_at = excluded.silent_at, message = excluded.message, hint = excluded.hint;

-- name: forget_hosts
DELETE FROM facts WHERE max(coalesce(seen_at, 0), coalesce(silent_at, 0)) < :before;

-- name: pins_of
SELECT mode, digest, tag FROM pins WHERE repository = :repository AND build_id = :build_id AND platform = :platform;

-- name: record_pin
-- A use within a day of the last one changes nothing, so that its transaction needs no sync of the disk.
INSERT INTO pins (repository, build_id, platform, mode, digest, tag, used_at)
VALUES (:repository, :build_id, :platform, :mode, :digest, :tag, :at)
ON CONFLICT (repository, build_id, platform, mode) DO UPDATE SET
    digest = excluded.digest, tag = excluded.tag, used_at = excluded.used_at
WHERE pins.digest <> excluded.digest OR pins.tag <> excluded.tag OR pins.used_at < excluded.used_at - 86400;

-- name: forget_pins
DELETE FROM pins WHERE used_at < :before;
