"""ONBUILD: the instructions that a base, an image or a stage, puts right after the FROM of a stage that builds on it.

The triggers of a base are those it declares itself; those of its own base were consumed by it. A trigger is parsed as a
Dockerfile of its own, and holds one instruction.

Source: moby/buildkit `frontend/dockerfile/dockerfile2llb/convert.go` (`resolveStages`, `initOnBuildTriggers`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from coordinator.domain.dockerfile.base_config import BaseConfig
from coordinator.domain.dockerfile.instructions import NO_TRIGGERS, Flag, Instruction, Word, read, wrong
from coordinator.domain.dockerfile.stages import ImageWord, Stage, image_words
from coordinator.errors import UsageError


def with_triggers(stage: Stage, triggers: Sequence[Instruction]) -> Stage:
    """Return the stage with these instructions before its own."""
    if not triggers:
        return stage
    words = (word for instruction in triggers for word in image_words(instruction))
    return replace(stage, instructions=(*triggers, *stage.instructions), sources=(*words, *stage.sources))


def stage_triggers(parent: Stage) -> tuple[Instruction, ...]:
    """Return the triggers that this stage has for the stages that build on it, with their lines."""
    return tuple(instruction.trigger for instruction in parent.instructions if instruction.trigger)


def image_triggers(image: str, config: BaseConfig, line: int, path: str) -> tuple[Instruction, ...]:
    """Return the triggers of an image for a FROM on this line.

    Raises UsageError for a trigger that no builder accepts.
    """
    return tuple(_image_trigger(image, text, line, path) for text in config.triggers)


def trigger_words(stage: Stage) -> Iterator[ImageWord]:
    """Yield the words in the stage's ONBUILD instructions that name an image or a stage."""
    for trigger in stage_triggers(stage):
        yield from image_words(trigger)


def _image_trigger(image: str, text: str, line: int, path: str) -> Instruction:
    hint = "it is in the image's configuration: build from another tag"
    try:
        found = read(text, path).instructions
    except UsageError as error:
        raise wrong(path, line, f"ONBUILD of {image} cannot be read: {text}", hint) from error
    if len(found) != 1 or found[0].keyword in NO_TRIGGERS:
        raise wrong(path, line, f"ONBUILD of {image} holds no instruction that may follow it: {text}", hint)
    trigger = found[0]
    return replace(
        trigger,
        line=line,
        flags=tuple(Flag(flag.name, flag.value, _outside(flag.word)) for flag in trigger.flags),
        words=tuple(_outside(word) for word in trigger.words),
        onbuild_of=image,
    )


def _outside(word: Word) -> Word:
    return Word(word.text, ())
