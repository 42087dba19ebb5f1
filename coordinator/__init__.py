"""archloom: one image, many architectures, real machines, one tag."""

__version__ = "0.1.0"
