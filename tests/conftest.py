"""Every test: four fake CPU devices, rank promotion raises, warnings are errors, a compilation cache.

Machine code is neither optimised nor, before jax 0.11, made by XLA's emitters of fusions, as the suite compiles far more than it
computes: networks compile in half to a third of the time. `make test-slow` has XLA's usual code.
"""

import importlib.metadata
import os
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[1]
DATA = pathlib.Path(os.environ.get("FIELDS3D_DATA", ROOT.parent / "shared" / "data"))

os.environ.setdefault("JAX_PLATFORMS", "cpu")
FLAGS = "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0"
if tuple(map(int, importlib.metadata.version("jaxlib").split(".")[:2])) < (0, 11):
  FLAGS += " --xla_cpu_use_fusion_emitters=false"  # unknown flags end the process
os.environ.setdefault("XLA_FLAGS", FLAGS)
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("MPLBACKEND", "Agg")

import hypothesis  # noqa: E402
import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")
hypothesis.settings.register_profile("fields3d", deadline=None)  # no timed assertions
hypothesis.settings.load_profile("fields3d")


@pytest.fixture(scope="session")
def real_data() -> pathlib.Path:
  """The folder of real meshes and scenes; tests that need it skip where it is missing."""
  if not DATA.is_dir():
    pytest.skip(f"real data not found at {DATA}: set FIELDS3D_DATA to its folder")
  return DATA
