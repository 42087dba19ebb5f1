"""The record of a run, as its driver writes it and others read it meanwhile and later."""

from __future__ import annotations

from itertools import count
from pathlib import Path

from coordinator.domain.image.platforms import Mode, parse
from coordinator.domain.run.events import Event, Notice, Place, RunStarted, StepLine, Waiting
from coordinator.report.follow import Moment
from coordinator.report.record import FILE_NAME, RecordReader, recorded

ARM64 = parse("linux/arm64")
PLACE = Place(platform=ARM64, host="pi5", mode=Mode.NATIVE)


def started(folder: Path) -> RunStarted:
    return RunStarted(run="7f3a", tags=("nas/app:1",), platforms=(ARM64,), log_folder=str(folder))


def write(events: list[Event], start: int = 0, **more) -> list[Event]:
    """What the terminal was shown."""
    shown: list[Event] = []
    ticks = count(start)
    with recorded(shown.append, lambda: float(next(ticks)), **more) as watch:
        for event in events:
            watch(event)
    return shown


def test_what_came_before_the_run_is_in_its_record(tmp_path):
    """The id, and with it the file, is known late: nothing is lost by that, and the times are right."""
    folder = tmp_path / "runs" / "7f3a"
    events = [Notice("no inventory"), started(folder), Waiting(ARM64, "busy")]

    assert write(events) == events

    assert list(RecordReader(folder).new()) == [(0.0, events[0]), (1.0, events[1]), (2.0, events[2])]
    assert folder.stat().st_mode & 0o077 == 0


def test_a_run_that_is_driven_again_goes_on_in_its_record(tmp_path):
    """Its second driver appends, also behind a line that the first one did not finish."""
    write([started(tmp_path)])
    with (tmp_path / FILE_NAME).open("a") as torn:
        torn.write('{"event": "waiting", "platf')

    write([Notice("resumed"), started(tmp_path)], 10)

    assert list(RecordReader(tmp_path).new()) == [
        (0.0, started(tmp_path)),
        (10.0, Notice("resumed")),
        (11.0, started(tmp_path)),
    ]


def test_a_reader_goes_on_where_it_stopped(tmp_path):
    """It sees a line when it is whole, once."""
    reader = RecordReader(tmp_path)
    assert list(reader.new()) == []

    write([started(tmp_path)])
    assert [event for _, event in reader.new()] == [started(tmp_path)]
    with (tmp_path / FILE_NAME).open("a") as file:
        file.write('{"event": "notice", "at": 1.5, "te')
        file.flush()
        assert list(reader.new()) == []
        file.write('xt": "whole"}\n')
    assert list(reader.new()) == [(1.5, Notice("whole"))]
    assert list(reader.new()) == []


def test_a_disk_that_takes_no_more_costs_the_record_not_the_run(tmp_path):
    """It is said once, on the terminal; the run goes on."""
    (tmp_path / FILE_NAME).symlink_to("/dev/full")
    events = [started(tmp_path), Waiting(ARM64, "busy"), Waiting(ARM64, "busy still")]

    shown = write(events)

    assert [event for event in shown if event not in events] == [
        Notice(f"the rest of this run is not recorded: {tmp_path}/{FILE_NAME}: No space left on device")
    ]


def test_without_a_folder_there_is_no_record(tmp_path):
    """A state folder that cannot be used costs no build."""
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "7f3a"

    shown = write([started(folder), Waiting(ARM64, "busy")])

    assert [event.text for event in shown if isinstance(event, Notice)] == [
        f"this run is not recorded: {folder}/{FILE_NAME}: File exists"
    ]
    assert list(RecordReader(folder).new()) == []


def test_a_build_that_prints_for_ever_does_not_fill_the_disk(tmp_path):
    """Of its output enough is kept; where its steps begin and end always is."""
    output = StepLine(PLACE, "#5 0.1 y")
    step = StepLine(PLACE, "#5 [2/2] RUN yes", "[2/2] RUN yes")

    shown = write([started(tmp_path), *[output] * 1000, step, *[output] * 1000], most_bytes=20_000)

    assert shown.count(output) == 2000
    kept = [event for _, event in RecordReader(tmp_path).new()]
    assert 100 < kept.count(output) < 300
    assert kept[-2:] == [Notice("the rest of the build output is not recorded here: see archloom logs"), step]
    assert (tmp_path / FILE_NAME).stat().st_size < 22_000


def test_a_replayed_run_goes_on_where_its_clock_was_set_back():
    """Also until now, so that what is under way has a duration that is not negative."""
    moment = Moment(lambda: 500.0)
    seen = []
    for at in (1000.0, 1030.0, 400.0, 410.0, None):
        moment.move(at)
        seen.append(moment())

    assert seen == [1000.0, 1030.0, 1030.0, 1040.0, 1130.0]
