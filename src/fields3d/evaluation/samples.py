"""The shapes that several evaluators share: a run's own draws, kept on disk, and a split's true surfaces.

A draw without a surface is None, never left out: each metric says how it counts it.
"""

import hashlib
import os
import pathlib
import zipfile
from collections.abc import Callable, Sequence

import jax
import numpy as np

from fields3d.core.errors import BadData, Diverged, UsageFault, from_os_error
from fields3d.core.progress import progress
from fields3d.core.task import field_of, lookup
from fields3d.core.types import Dataset, Mesh
from fields3d.evaluation.results import EvaluationInput
from fields3d.extraction.sparse import extract
from fields3d.geometry.meshes import sample_surface, without_specks

BLOCK = 16  # Codes of a call of "sample": a draw does not depend on how many are asked for.
FOLDER = "drawn"
_DAMAGED = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)


class LazyMeshes(Sequence):
  """Meshes (None: a draw without a surface) that are read when asked for, one at a time; none is kept here.

  read: index -> mesh or None. problems: index -> why there is no mesh.
  """

  def __init__(self, num: int, read: Callable[[int], Mesh | None], problems: dict[int, str] | None = None):
    self._num, self._read, self.problems = num, read, problems or {}

  def __len__(self) -> int:
    return self._num

  def __getitem__(self, index):
    if isinstance(index, slice):
      return [self[i] for i in range(*index.indices(self._num))]
    if not -self._num <= index < self._num:
      raise IndexError(index)
    return self._read(index % self._num)


def draw_meshes(inputs: EvaluationInput, num: int, resolution: int, seed: int, pred: str = "sdf") -> LazyMeshes:
  """The first `num` shapes that a run draws with a seed, the same for every evaluator and whatever `num` is.

  Codes come from the predict function "sample" in blocks of 16, block b by fold_in(key(seed), b); each becomes a mesh
  by `extract` of `pred`. Meshes are kept in eval/<step>/drawn/ and read again by whoever asks next. The key of what is
  kept holds seed, resolution and the model's own values at fixed points, so that another model's are never taken.

  Args:
    inputs: its predict functions, bounds and out_dir, whose parent holds the kept meshes.
    resolution: grid nodes per axis.

  Returns:
    (num,) meshes, None where a draw has no surface or is not finite; `problems` says why.

  Raises:
    UsageFault: the task cannot be sampled.
  """
  codes = _Codes(lookup(inputs.predict, "sample", "evals: the task cannot be sampled"), seed)
  info = inputs.dataset.info
  field = lambda z: field_of(inputs.predict, z, info, pred, f"evals, pred={pred}")
  bounds = np.asarray(field(codes[0]).bounds)
  probe = np.random.default_rng(0).uniform(bounds[0], bounds[1], (64, 3)).astype(np.float32)
  digest = hashlib.sha256(np.asarray(codes[0]).tobytes() + np.asarray(field(codes[0]).fn(probe)).tobytes())
  root = inputs.out_dir.parent / FOLDER / f"{pred}-seed{seed}-res{resolution}-{digest.hexdigest()[:16]}"
  _make(root)
  problems = {}
  with progress() as show:
    for index in range(num):
      path = root / f"{index:05d}.npz"
      kept = _read(path)
      if kept is None:
        kept = _extract(field(codes[index]), resolution)
        _write(path, *kept)
      if kept[0] is None:
        problems[index] = kept[1]
      show("draws", index + 1, num)

  def read(index: int) -> Mesh | None:
    kept = _read(root / f"{index:05d}.npz")
    return (_extract(field(codes[index]), resolution) if kept is None else kept)[0]

  return LazyMeshes(num, read, problems)


def cleaned(meshes: LazyMeshes, specks: float) -> tuple[LazyMeshes, list[str]]:
  """The meshes without specks (`geometry.meshes.without_specks`), and what has been done in words; as they are for 0."""
  if not specks:
    return meshes, []

  def read(index: int) -> Mesh | None:
    mesh = meshes[index]
    return None if mesh is None else without_specks(mesh, specks)

  said = f"pieces of each draw below {100 * specks:g}% of its largest piece's area are taken away"
  return LazyMeshes(len(meshes), read, meshes.problems), [said]


def draw_clouds(inputs: EvaluationInput, num: int, points: int, seed: int) -> tuple[np.ndarray, np.ndarray, dict[int, str]]:
  """The first `num` clouds that a run draws with a seed: its codes are those of `draw_meshes`, its points of "points".

  Args:
    points: of each cloud, a random choice of those that the task gives.

  Returns:
    clouds (m, points, 3) float32 in the model frame, (m,) which draw each is, and why the others are none.

  Raises:
    UsageFault: the task draws no points, or fewer.
  """
  lookup(inputs.predict, "points", "evals: the task has no clouds of points")
  codes = _Codes(lookup(inputs.predict, "sample", "evals: the task cannot be sampled"), seed)
  kept, problems = {}, {}
  with progress() as show:
    for index in range(num):
      cloud, problem = cloud_of(inputs, codes[index], "points", points, 0, seed, index)
      if cloud is None:
        problems[index] = problem
      else:
        kept[index] = cloud
      show("draws", index + 1, num)
  clouds = np.stack(list(kept.values())) if kept else np.zeros((0, points, 3), np.float32)
  return clouds, np.array(list(kept), np.int64), problems


def cloud_of(inputs: EvaluationInput, code: jax.Array, pred: str, points: int, resolution: int, seed: int,
             index: int) -> tuple[np.ndarray | None, str]:
  """Points of the shape of a code: of "points", a random choice of those that the task gives; else of the field's surface.

  Args:
    pred: the predict function. resolution: grid nodes per axis of the extraction. seed, index: of the random choices.

  Returns:
    (points, 3) float32 in the model frame, or None, and why there are none.

  Raises:
    UsageFault: the task cannot be asked, or has fewer points.
  """
  rng = np.random.default_rng((seed, 23, index))
  if pred != "points":
    mesh, problem = _extract(field_of(inputs.predict, code, inputs.dataset.info, pred, f"evals, pred={pred}"), resolution)
    return (None, problem) if mesh is None else (sample_surface(mesh, points, rng).points.astype(np.float32), "")
  cloud = lookup(inputs.predict, "points", "evals: the task has no clouds of points")
  found = np.asarray(cloud(code, cloud_key(seed, index)), np.float32)
  if len(found) < points:
    raise UsageFault("evals.points", f"{points} points are asked for, the task's clouds have {len(found)}", "ask for fewer")
  return (found[rng.choice(len(found), points, replace=False)], "") if np.isfinite(found).all() else (None, "is not finite")


def cloud_key(seed: int, index: int) -> jax.Array:
  """The key of a draw's points, apart from those of the codes, which come of the seed's own key."""
  return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), 2**31 - 1), index)


def reference_meshes(dataset: Dataset, split: str, num: int | None = None, seed: int = 0) -> LazyMeshes:
  """The true surfaces of a split, in its order; of `num` shapes chosen at random where given, in the split's order.

  Raises:
    UsageFault: the split has no shapes, or fewer than `num`.
  """
  shapes = dataset.shapes(split)
  chosen = choose(len(shapes), num, seed, split)
  return LazyMeshes(len(chosen), lambda index: shapes[int(chosen[index])].mesh())


def choose(total: int, num: int | None, seed: int, split: str) -> np.ndarray:
  """`num` of `total` indices (all when None), drawn without replacement, sorted.

  >>> choose(5, 3, 0, "val").tolist()
  [0, 1, 2]
  """
  if total == 0:
    raise UsageFault("evals.split", f"the dataset has no {split!r} shapes", "name a split that it has")
  if num is None:
    return np.arange(total)
  if num > total:
    raise UsageFault("evals.num", f"{num} shapes of split {split!r} are asked for, it has {total}", "ask for fewer")
  return np.sort(np.random.default_rng((seed, 7)).choice(total, num, replace=False))


def clouds_of(meshes: Sequence[Mesh | None], points: int, seed: int, stream: int = 0,
              watch: Callable[[int, int], None] = lambda done, total: None) -> tuple[np.ndarray, np.ndarray]:
  """Clouds of points uniform by area, one of each mesh that there is.

  Args:
    points: of each cloud. seed, stream: cloud i depends on (seed, stream, i) alone; sets that are compared take
      different streams, so that their points are independent. watch: told how many meshes of all are done.

  Returns:
    clouds (m, points, 3) float32, in the meshes' frame, and (m,) which mesh each is of; a None has no cloud.
  """
  kept, clouds = [], []
  for i in range(len(meshes)):
    mesh = meshes[i]
    if mesh is not None:
      clouds.append(sample_surface(mesh, points, np.random.default_rng((seed, stream, i))).points.astype(np.float32))
      kept.append(i)
    watch(i + 1, len(meshes))
  return np.stack(clouds) if clouds else np.zeros((0, points, 3), np.float32), np.array(kept, np.int64)


class _Codes:
  """The codes of a seed, block by block, when they are asked for."""

  def __init__(self, sample: Callable, seed: int):
    self._sample, self._key, self._number, self._block = sample, jax.random.key(seed), None, None

  def __getitem__(self, index: int) -> jax.Array:
    number, place = divmod(index, BLOCK)
    if number != self._number:
      self._number, self._block = number, self._sample(jax.random.fold_in(self._key, number), BLOCK)
    return self._block[place]


def _extract(field, resolution: int) -> tuple[Mesh | None, str]:
  """The field's mesh, or None and the reason."""
  try:
    return extract(field, resolution)[0], ""
  except (BadData, Diverged) as fault:
    return None, fault.what


def _read(path: pathlib.Path) -> tuple[Mesh | None, str] | None:
  """What a file keeps: a mesh, or None and the reason; None where there is no whole file."""
  try:
    with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
      reason = file["reason"].tobytes().decode()
      if reason:
        return None, reason
      colors = file["colors"] if "colors" in file.files else None
      return Mesh(file["vertices"].astype(np.float64), file["faces"].astype(np.int64), colors), ""
  except _DAMAGED:
    return None


def _write(path: pathlib.Path, mesh: Mesh | None, reason: str) -> None:
  """Keeps a mesh or the reason why there is none; the file is whole or not there."""
  arrays = {"reason": np.frombuffer(reason.encode(), np.uint8)}
  if mesh is not None:
    arrays |= {"vertices": mesh.vertices, "faces": mesh.faces.astype(np.int32)}
    arrays |= {} if mesh.colors is None else {"colors": mesh.colors}
  temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp")
  try:
    with open(temporary, "wb") as file:
      np.savez(file, **arrays)
    os.replace(temporary, path)
  except OSError as error:
    temporary.unlink(missing_ok=True)
    raise from_os_error(error, path) from error


def _make(root: pathlib.Path) -> None:
  try:
    root.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise from_os_error(error, root) from error
