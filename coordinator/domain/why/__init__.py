"""Why a run did what it did: its story, what it was built from, and what had changed since the run before."""
