pytest_plugins = ["tests.services.fixtures", "tests.edges.store_bed"]
