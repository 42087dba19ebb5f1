"""`python -m coordinator`: the command `archloom`."""

from coordinator.cli.main import main

main()
