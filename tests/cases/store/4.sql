BEGIN TRANSACTION;
CREATE TABLE attempts (
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
INSERT INTO "attempts" VALUES(1,1,1,'beast','native','lost','disk','no space left on /var/lib/docker; 0 bytes free','',0,1763930003.0,1763930006.0);
INSERT INTO "attempts" VALUES(2,1,2,'pi5','native','pushed','','','sha256:1111111111111111111111111111111111111111111111111111111111111111',1,1763930010.0,NULL);
INSERT INTO "attempts" VALUES(3,3,1,'pi5','compat','pushed','','','sha256:1111111111111111111111111111111111111111111111111111111111111111',1,1763930019.0,NULL);
INSERT INTO "attempts" VALUES(4,4,1,'beast','native','failed','build','exit code: 3','',0,1763930037.0,1763930040.0);
INSERT INTO "attempts" VALUES(5,5,1,'beast','emulated','cancelled','','','',0,1763930044.0,1763930046.0);
INSERT INTO "attempts" VALUES(6,6,1,'beast','native','built','','','',0,1763930055.0,NULL);
INSERT INTO "attempts" VALUES(7,7,1,'pi5','native','building','','','',0,1763930060.0,NULL);
CREATE TABLE events (
    id     INTEGER PRIMARY KEY,
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    at     REAL NOT NULL,
    what   TEXT NOT NULL,                        -- 'job arm64 pending assign active'
    data   TEXT NOT NULL DEFAULT '{}'
) STRICT;
INSERT INTO "events" VALUES(1,'7f3a0001',1763930001.0,'run created','{}');
INSERT INTO "events" VALUES(2,'7f3a0001',1763930002.0,'job linux/amd64 pending assign active','{}');
INSERT INTO "events" VALUES(3,'7f3a0001',1763930004.0,'attempt linux/amd64 1 assigned send sending','{}');
INSERT INTO "events" VALUES(4,'7f3a0001',1763930005.0,'attempt linux/amd64 1 sending sent building','{}');
INSERT INTO "events" VALUES(5,'7f3a0001',1763930007.0,'attempt linux/amd64 1 building lose lost','{"code": "disk", "message": "no space left on /var/lib/docker; 0 bytes free"}');
INSERT INTO "events" VALUES(6,'7f3a0001',1763930008.0,'job linux/amd64 active retry pending','{}');
INSERT INTO "events" VALUES(7,'7f3a0001',1763930009.0,'job linux/amd64 pending assign active','{}');
INSERT INTO "events" VALUES(8,'7f3a0001',1763930011.0,'attempt linux/amd64 2 assigned send sending','{}');
INSERT INTO "events" VALUES(9,'7f3a0001',1763930012.0,'attempt linux/amd64 2 sending sent building','{}');
INSERT INTO "events" VALUES(10,'7f3a0001',1763930013.0,'attempt linux/amd64 2 building built built','{}');
INSERT INTO "events" VALUES(11,'7f3a0001',1763930014.0,'attempt linux/amd64 2 built push pushing','{}');
INSERT INTO "events" VALUES(12,'7f3a0001',1763930015.0,'attempt linux/amd64 2 pushing pushed pushed','{}');
INSERT INTO "events" VALUES(13,'7f3a0001',1763930016.0,'job linux/amd64 active verify verified','{}');
INSERT INTO "events" VALUES(14,'7f3a0001',1763930017.0,'job linux/arm64 pending reuse verified','{}');
INSERT INTO "events" VALUES(15,'7f3a0001',1763930018.0,'job linux/arm/v7 pending assign active','{}');
INSERT INTO "events" VALUES(16,'7f3a0001',1763930020.0,'attempt linux/arm/v7 1 assigned send sending','{}');
INSERT INTO "events" VALUES(17,'7f3a0001',1763930021.0,'attempt linux/arm/v7 1 sending sent building','{}');
INSERT INTO "events" VALUES(18,'7f3a0001',1763930022.0,'attempt linux/arm/v7 1 building built built','{}');
INSERT INTO "events" VALUES(19,'7f3a0001',1763930023.0,'attempt linux/arm/v7 1 built push pushing','{}');
INSERT INTO "events" VALUES(20,'7f3a0001',1763930024.0,'attempt linux/arm/v7 1 pushing pushed pushed','{}');
INSERT INTO "events" VALUES(21,'7f3a0001',1763930025.0,'job linux/arm/v7 active verify verified','{}');
INSERT INTO "events" VALUES(22,'7f3a0001',1763930026.0,'target open complete ready','{}');
INSERT INTO "events" VALUES(23,'7f3a0001',1763930027.0,'target ready index indexed','{"digest": "sha256:9999999999999999999999999999999999999999999999999999999999999999"}');
INSERT INTO "events" VALUES(24,'7f3a0001',1763930028.0,'target indexed tag tagging','{}');
INSERT INTO "events" VALUES(25,'7f3a0001',1763930029.0,'tag nas.lan:5000/app:1 moved','{}');
INSERT INTO "events" VALUES(26,'7f3a0001',1763930030.0,'tag nas.lan:5000/app:latest moved','{}');
INSERT INTO "events" VALUES(27,'7f3a0001',1763930031.0,'target tagging publish published','{}');
INSERT INTO "events" VALUES(28,'7f3a0001',1763930033.0,'run ended 0','{}');
INSERT INTO "events" VALUES(29,'7f3a0002',1763930035.0,'run created','{}');
INSERT INTO "events" VALUES(30,'7f3a0002',1763930036.0,'job linux/amd64 pending assign active','{}');
INSERT INTO "events" VALUES(31,'7f3a0002',1763930038.0,'attempt linux/amd64 1 assigned send sending','{}');
INSERT INTO "events" VALUES(32,'7f3a0002',1763930039.0,'attempt linux/amd64 1 sending sent building','{}');
INSERT INTO "events" VALUES(33,'7f3a0002',1763930041.0,'attempt linux/amd64 1 building fail failed','{"code": "build", "message": "exit code: 3"}');
INSERT INTO "events" VALUES(34,'7f3a0002',1763930042.0,'job linux/amd64 active fail failed','{}');
INSERT INTO "events" VALUES(35,'7f3a0002',1763930043.0,'job linux/arm64 pending assign active','{}');
INSERT INTO "events" VALUES(36,'7f3a0002',1763930045.0,'attempt linux/arm64 1 assigned send sending','{}');
INSERT INTO "events" VALUES(37,'7f3a0002',1763930047.0,'attempt linux/arm64 1 sending cancel cancelled','{}');
INSERT INTO "events" VALUES(38,'7f3a0002',1763930048.0,'job linux/arm64 active cancel cancelled','{}');
INSERT INTO "events" VALUES(39,'7f3a0002',1763930049.0,'target open give_up incomplete','{}');
INSERT INTO "events" VALUES(40,'7f3a0002',1763930051.0,'run ended 4','{}');
INSERT INTO "events" VALUES(41,'7f3a0003',1763930053.0,'run created','{}');
INSERT INTO "events" VALUES(42,'7f3a0003',1763930054.0,'job linux/amd64 pending assign active','{}');
INSERT INTO "events" VALUES(43,'7f3a0003',1763930056.0,'attempt linux/amd64 1 assigned send sending','{}');
INSERT INTO "events" VALUES(44,'7f3a0003',1763930057.0,'attempt linux/amd64 1 sending sent building','{}');
INSERT INTO "events" VALUES(45,'7f3a0003',1763930058.0,'attempt linux/amd64 1 building built built','{}');
INSERT INTO "events" VALUES(46,'7f3a0003',1763930059.0,'job linux/arm64 pending assign active','{}');
INSERT INTO "events" VALUES(47,'7f3a0003',1763930061.0,'attempt linux/arm64 1 assigned send sending','{}');
INSERT INTO "events" VALUES(48,'7f3a0003',1763930062.0,'attempt linux/arm64 1 sending sent building','{}');
CREATE TABLE facts (
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
INSERT INTO "facts" VALUES('pi5','ssh://pi@pi5.lan',1763929000.5,0.25,'m b','{"cores": 4, "uname": {"machine": "aarch64"}}',NULL,'','');
INSERT INTO "facts" VALUES('pi4','ssh://pi4.lan',NULL,0.0,'',NULL,1763930064.0,'no SSH answer from pi4.lan port 22 in 5 s','try: ping -c 1 pi4.lan');
CREATE TABLE jobs (
    id       INTEGER PRIMARY KEY,
    run_id   TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    platform TEXT NOT NULL,
    state    TEXT NOT NULL DEFAULT 'pending',
    build_id TEXT NOT NULL,
    reused   INTEGER NOT NULL DEFAULT 0,
    child    TEXT,                               -- the verified child, once there is one
    UNIQUE (run_id, platform)
) STRICT;
INSERT INTO "jobs" VALUES(1,'7f3a0001','linux/amd64','verified','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa',0,'{"child": {"digest": "sha256:1111111111111111111111111111111111111111111111111111111111111111", "size": 500}, "pin": "archloom-1111111111111111-amd64", "mode": "native"}');
INSERT INTO "jobs" VALUES(2,'7f3a0001','linux/arm64','verified','bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb',1,'{"child": {"digest": "sha256:2222222222222222222222222222222222222222222222222222222222222222", "size": 500}, "pin": "archloom-2222222222222222-amd64", "mode": "native"}');
INSERT INTO "jobs" VALUES(3,'7f3a0001','linux/arm/v7','verified','cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc',0,'{"child": {"digest": "sha256:3333333333333333333333333333333333333333333333333333333333333333", "size": 500}, "pin": "archloom-3333333333333333-amd64", "mode": "native"}');
INSERT INTO "jobs" VALUES(4,'7f3a0002','linux/amd64','failed','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa',0,NULL);
INSERT INTO "jobs" VALUES(5,'7f3a0002','linux/arm64','cancelled','bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb',0,NULL);
INSERT INTO "jobs" VALUES(6,'7f3a0003','linux/amd64','active','dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd',0,NULL);
INSERT INTO "jobs" VALUES(7,'7f3a0003','linux/arm64','active','eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee',0,NULL);
INSERT INTO "jobs" VALUES(8,'7f3a0003','linux/arm/v7','pending','ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff',0,NULL);
CREATE TABLE leases (
    run_id  TEXT PRIMARY KEY REFERENCES runs (id) ON DELETE CASCADE,  -- one driver a run
    token   TEXT NOT NULL,
    holder  TEXT NOT NULL,
    pid     INTEGER NOT NULL,
    started TEXT NOT NULL,
    boot_id TEXT NOT NULL,
    beat_at REAL NOT NULL
) STRICT;
INSERT INTO "leases" VALUES('7f3a0003','t1','ada@beast',4711,'100','b00t',1763930060.0);
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
INSERT INTO "pins" VALUES('nas.lan:5000/app','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','linux/arm64','native','sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc','archloom-x-arm64-n',1763929000.5);
CREATE TABLE runs (
    id           TEXT PRIMARY KEY,
    created_at   REAL NOT NULL,
    finished_at  REAL,
    exit_code    INTEGER,
    request      TEXT NOT NULL,                  -- what was asked, enough to ask it again
    target_state TEXT NOT NULL DEFAULT 'open',
    index_digest TEXT NOT NULL DEFAULT ''
, inputs TEXT NOT NULL DEFAULT '{}', inventory TEXT NOT NULL DEFAULT '', cancel_asked INTEGER NOT NULL DEFAULT 0) STRICT;
INSERT INTO "runs" VALUES('7f3a0001',1763930000.0,1763930032.0,0,'{"context": "/home/ada/app", "dockerfile": "Dockerfile", "tags": ["nas.lan:5000/app:1", "nas.lan:5000/app:latest"], "platforms": ["linux/amd64", "linux/arm64", "linux/arm/v7"], "stage": "", "build_args": {"GREETING": "gr\u00fc\u00df, ''Ada''"}, "labels": {}, "no_cache": false, "pull": false, "emulate": "auto"}','published','sha256:9999999999999999999999999999999999999999999999999999999999999999','{}','',0);
INSERT INTO "runs" VALUES('7f3a0002',1763930034.0,1763930050.0,4,'{"context": "/home/ada/app", "dockerfile": "Dockerfile", "tags": ["nas.lan:5000/app:2", "nas.lan:5000/app:latest"], "platforms": ["linux/amd64", "linux/arm64", "linux/arm/v7"], "stage": "", "build_args": {"GREETING": "gr\u00fc\u00df, ''Ada''"}, "labels": {}, "no_cache": false, "pull": false, "emulate": "auto"}','incomplete','','{}','',0);
INSERT INTO "runs" VALUES('7f3a0003',1763930052.0,NULL,NULL,'{"context": "/home/ada/app", "dockerfile": "Dockerfile", "tags": ["nas.lan:5000/app:1", "nas.lan:5000/app:latest"], "platforms": ["linux/amd64", "linux/arm64", "linux/arm/v7"], "stage": "", "build_args": {"GREETING": "gr\u00fc\u00df, ''Ada''"}, "labels": {}, "no_cache": false, "pull": false, "emulate": "auto"}','open','','{}','',0);
CREATE TABLE tags (
    run_id    TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    reference TEXT NOT NULL,
    previous  TEXT NOT NULL,                     -- the digest it had before this run, '' when it had none
    moved     INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (run_id, reference)
) STRICT;
INSERT INTO "tags" VALUES('7f3a0001','nas.lan:5000/app:1','',1);
INSERT INTO "tags" VALUES('7f3a0001','nas.lan:5000/app:latest','sha256:8888888888888888888888888888888888888888888888888888888888888888',1);
CREATE UNIQUE INDEX one_winner ON attempts (job_id) WHERE winning = 1;
CREATE INDEX events_of_run ON events (run_id, id);
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
CREATE INDEX pins_by_use ON pins (used_at);
COMMIT;
PRAGMA user_version = 4;
