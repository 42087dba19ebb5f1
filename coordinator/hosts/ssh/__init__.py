"""Boards: hosts that are reached through SSH, by asyncssh."""
