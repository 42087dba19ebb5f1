-- The last probe of each host. The key is name and address: an entry with a new address starts without facts. A failure
-- to answer is stored beside the facts: a host that is switched off now keeps its last facts.

CREATE TABLE IF NOT EXISTS facts (
    host        TEXT NOT NULL,
    address     TEXT NOT NULL,
    seen_at     REAL,                            -- when the observation arrived
    round_trip  REAL NOT NULL DEFAULT 0,         -- how long it took, in seconds
    machine     TEXT NOT NULL DEFAULT '',        -- which machine and which boot of it, as the agent says
    observation TEXT,                            -- the agent's, as it came
    silent_at   REAL,                            -- when it last did not answer, NULL when it has since
    message     TEXT NOT NULL DEFAULT '',
    hint        TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (host, address)
) STRICT;
