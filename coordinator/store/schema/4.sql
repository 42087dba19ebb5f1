-- Children that this coordinator verified, so that they are found again where a registry has no tag for them.

CREATE TABLE pins (
    repository TEXT NOT NULL,                 -- registry/repository
    build_id   TEXT NOT NULL,
    platform   TEXT NOT NULL,
    mode       TEXT NOT NULL,
    digest     TEXT NOT NULL,
    tag        TEXT NOT NULL,                 -- '' where the registry has none
    used_at    REAL NOT NULL,
    PRIMARY KEY (repository, build_id, platform, mode)
) STRICT;

CREATE INDEX pins_by_use ON pins (used_at);
