-- The name of an attempt's job on its host: an image that a run left there is taken over by a later run.
-- Older attempts have '', and the name that `domain/run/job_names.py` gives.

ALTER TABLE attempts ADD COLUMN agent_job TEXT NOT NULL DEFAULT '';

CREATE INDEX attempts_by_agent_job ON attempts (agent_job);

-- Never two builds of one job on one host, and never more than two.
CREATE UNIQUE INDEX one_attempt_on_a_host ON attempts (job_id, host)
WHERE winning = 0 AND state NOT IN ('failed', 'lost', 'cancelled');

CREATE TRIGGER two_attempts BEFORE INSERT ON attempts
WHEN (SELECT count(*) FROM attempts
      WHERE job_id = NEW.job_id AND winning = 0 AND state NOT IN ('failed', 'lost', 'cancelled')) >= 2
BEGIN SELECT RAISE(ABORT, 'a job has two attempts at most'); END;
