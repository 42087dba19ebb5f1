"""`scripts/chaos [N]`: so many trials, each of a seed of its own; `--seed S` repeats one exactly."""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.chaos.invariants import INVARIANTS, last_words
from tests.chaos.lab import ChaosLab, chaos_lab
from tests.chaos.leftovers import sweep_emulator
from tests.chaos.plan import KINDS, SCALE, Plan, plan
from tests.chaos.trial import Trial, trial


def judged(done: Trial) -> list[str]:
    """What does not hold, in sentences."""
    return [sentence for invariant in INVARIANTS for sentence in invariant(done)]


def told(done: Trial) -> str:
    """What happened, in a line for each command and fault."""
    lines = [f"  {one}" for one in done.struck]
    for ran in done.commands:
        seconds, _ = ran.command.longest_silence()
        end = f" after Ctrl-C of who waited {ran.command.seconds:.0f} s" if ran.gave_up else ""
        words = f": {last_words(ran)[:200]}" if ran.exit_code else ""
        lines.append(
            f"  {ran.verb}: exit {ran.exit_code}{end} in {ran.command.seconds:.1f} s, silent for {seconds:.0f} s{words}"
        )
    return "\n".join(lines)


def one_trial(lab: ChaosLab, made: Plan, folder: Path, struck: Counter[str]) -> list[str]:
    """Runs and judges it, says what happened, and counts what struck. The sentences are what does not hold."""
    began = time.monotonic()
    print(made, flush=True)
    with trial(lab, made, folder) as done:
        found = [*(f"the fault itself: {one}" for one in done.struck if one.error), *judged(done)]
        struck.update(done.kinds)
        print(told(done))
        print("\n".join(f"  VIOLATED: {sentence}" for sentence in found) or "  holds")
        sweep_emulator(done)
        if found:
            write_down(done, folder / "commands.log")
    lab.restore()
    print(f"  {time.monotonic() - began:.0f} s", flush=True)
    return found


def write_down(done: Trial, file: Path) -> None:
    """All that its commands printed, with the seconds since each began."""
    with file.open("w") as log:
        for ran in done.commands:
            log.write(f"$ archloom {' '.join(ran.command.words)}\n")
            log.writelines(f"{line.at - ran.command.began:7.2f} {line.text}\n" for line in ran.command.lines)
            log.write(f"{ran.command.stdout}exit {ran.exit_code}\n")


def main() -> int:
    options = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__)
    options.add_argument("trials", nargs="?", type=int, default=10, help="how many trials (10)")
    options.add_argument("--seed", type=int, help="repeat this trial")
    options.add_argument("--first", type=int, help="the first seed, each next one is one more (random)")
    options.add_argument("--only", default="", help="kinds of the first fault, with commas between")
    options.add_argument("--scale", type=float, default=SCALE, help=f"of the seconds of cuts ({SCALE})")
    options.add_argument("--keep", type=Path, help="folder for what failed trials leave (none is kept)")
    options.add_argument("--list", action="store_true", help="list the kinds of faults")
    words = options.parse_args()
    if words.list:
        print("\n".join(f"{name:24} {kind.about}" for name, kind in KINDS.items()))
        return 0
    only = [name for name in words.only.split(",") if name]
    if unknown := set(only) - set(KINDS):
        options.error(f"no such kind: {', '.join(unknown)}")
    first = random.randrange(10**6) if words.first is None else words.first
    seeds = [words.seed] if words.seed is not None else range(first, first + words.trials)
    failed, struck = {}, Counter[str]()
    with tempfile.TemporaryDirectory(prefix="chaos-", dir="/var/tmp") as temporary, chaos_lab(Path(temporary)) as lab:
        for seed in seeds:
            folder = Path(temporary) / f"seed-{seed}"
            if found := one_trial(lab, plan(seed, scale=words.scale, only=only), folder, struck):
                failed[seed] = found
                if words.keep:
                    shutil.copytree(folder, words.keep / folder.name, symlinks=True, dirs_exist_ok=True)
            shutil.rmtree(folder)
    for seed, found in failed.items():
        print(f"seed {seed}: {len(found)} violated: {found[0][:200]}")
    print(f"{len(struck)} of {len(KINDS)} kinds of faults struck: {', '.join(sorted(struck)) or 'none'}")
    print(f"{len(seeds) - len(failed)} of {len(seeds)} trials hold")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
