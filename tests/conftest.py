from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.services.fixtures", "tests.edges.store_bed"]

# How quick a busy machine is tells nothing of the code.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")
