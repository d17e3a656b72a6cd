"""The leaves of a state tree as checkpoints see them: their names, descriptions, plain forms and placement."""

from typing import Any

import jax
import numpy as np

PyTree = Any


def leaf_name(path: tuple) -> str:
  """A leaf's name in manifests and messages.

  >>> leaf_name((jax.tree_util.GetAttrKey("params"), jax.tree_util.DictKey("w"), jax.tree_util.SequenceKey(0)))
  'params/w/0'
  """
  return jax.tree_util.keystr(path, simple=True, separator="/")


def is_key(leaf: Any) -> bool:
  """Whether a leaf is an array of typed PRNG keys."""
  return jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def describe(leaf: Any) -> dict:
  """Shape and dtype as the manifest states them; a typed key's dtype names its generator."""
  return {"shape": list(leaf.shape), "dtype": str(leaf.dtype)}


def to_plain(tree: PyTree) -> tuple[PyTree, dict]:
  """The tree as orbax takes it (keys as their data, numbers as arrays) and its description; numpy leaves are copied."""
  flat, treedef = jax.tree_util.tree_flatten_with_path(tree)
  leaves, described = [], {}
  for path, value in flat:
    leaf = value if isinstance(value, jax.Array) else np.array(value)
    described[leaf_name(path)] = describe(leaf)
    leaves.append(jax.random.key_data(leaf) if is_key(leaf) else leaf)
  return treedef.unflatten(leaves), described


def placed(leaf: Any) -> Any:
  """What orbax shall restore for an abstract leaf."""
  if isinstance(leaf, np.ndarray):
    return np.empty(leaf.shape, leaf.dtype)
  plain = jax.eval_shape(jax.random.key_data, jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)) if is_key(leaf) else leaf
  sharding = leaf.sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  return jax.ShapeDtypeStruct(plain.shape, plain.dtype, sharding=sharding)


def first_nonfinite(tree: PyTree) -> tuple[str, int] | None:
  """The first leaf (of this process's share) with NaNs or infinities and their count, or None."""
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    if not isinstance(leaf, jax.Array):
      blocks = [np.asarray(leaf)]
    else:
      blocks = [s.data for s in leaf.addressable_shards if s.replica_id == 0] if not is_key(leaf) else []
    inexact = blocks and jax.numpy.issubdtype(blocks[0].dtype, np.inexact)
    if inexact and (count := sum(_nonfinite(np.asarray(b).reshape(-1)) for b in blocks)):
      return leaf_name(path), count
  return None


def _nonfinite(flat: np.ndarray, part: int = 1 << 18) -> int:
  """How many of (n,) values are NaN or infinite; in parts that stay in the processor's cache."""
  return sum(len(x) - int(np.count_nonzero(np.isfinite(x))) for x in (flat[i:i + part] for i in range(0, len(flat), part)))
