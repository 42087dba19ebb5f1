"""Why a run did what it did: its timeline, its inputs, and what changed since the previous run."""
