"""More shapes from few: copies of a source stretched along its axes, before distances are computed."""

import dataclasses
import hashlib
import zlib
from collections.abc import Sequence

import numpy as np

from fields3d.core.types import Mesh
from fields3d.data.pipeline import generator
from fields3d.data.sources import Source


@dataclasses.dataclass(frozen=True)
class Stretched:
  """A source whose mesh is scaled by `factors` along x, y and z about its origin; a source itself."""
  source: Source
  name: str
  factors: tuple[float, float, float]

  @property
  def label(self) -> str:
    return self.source.label

  @property
  def licence(self) -> str:
    return self.source.licence

  @property
  def creator(self) -> str:
    return self.source.creator

  def digest(self) -> str:
    return hashlib.sha256(f"{self.source.digest()} stretched {self.factors}".encode()).hexdigest()

  def read(self) -> tuple[Mesh, list[str]]:
    mesh, warnings = self.source.read()
    return dataclasses.replace(mesh, vertices=mesh.vertices * np.asarray(self.factors)), warnings


def stretched(sources: Sequence[Source], variants: int, limit: float, seed: int) -> list[Source]:
  """Each source followed by `variants` copies, stretched per axis by exp(u), u uniform in +-log(limit).

  A copy depends on (seed, the source's name, its number) alone.
  """
  made = []
  for source in sources:
    made.append(source)
    for k in range(variants):
      exponents = generator(seed, zlib.crc32(source.name.encode()), k).uniform(-1, 1, 3) * np.log(limit)
      made.append(Stretched(source, f"{source.name}~{k + 1}", tuple(float(f) for f in np.exp(exponents))))
  return made
