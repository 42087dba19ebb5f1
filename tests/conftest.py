import os
import signal

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.services.fixtures", "tests.services.time_limits", "tests.edges.store.store_bed"]

# Child processes inherit ignored and blocked signals, and a test that sends one would hang. Shells start background
# jobs with SIGINT ignored, nohup with SIGHUP.
signal.pthread_sigmask(signal.SIG_SETMASK, ())
for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM):
    if signal.getsignal(number) is signal.SIG_IGN:
        # A handler is not handed on. One that does nothing keeps the tests themselves going, as they were told.
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else lambda *_: None)

# A busy machine is slow: no deadline.
settings.register_profile("local", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# In CI the same examples each time: a change fails by its own fault, and another machine can repeat it.
settings.register_profile("ci", settings.get_profile("local"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "local")
