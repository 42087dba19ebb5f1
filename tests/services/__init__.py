"""The real servers that tests run against, on loopback, and independent judges of what was published.

Plain functions and context managers; `fixtures.py` offers them to tests.
"""
