"""fields3d: implicit neural fields and 3D generative models in JAX."""

from fields3d.version import __version__ as __version__
