"""Hosts reached over SSH, with asyncssh."""
