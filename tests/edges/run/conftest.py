"""The fixtures of the steps' tests."""

from tests.edges.run.step_bed import hasty_steps, steps

__all__ = ["hasty_steps", "steps"]
