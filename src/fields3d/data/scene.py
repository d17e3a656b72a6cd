"""A scene: posed photographs in the model frame, with all that says how its figures are to be read."""

import dataclasses
from collections.abc import Mapping, Sequence

from fields3d.core.types import Frame, View


@dataclasses.dataclass(frozen=True)
class Scene:
  """What a loader of photographs gives. All cameras and lengths are in the model frame already.

  views: split ("train", "val", "test") -> photographs, cameras by the image's size after any scaling.
  near, far: where along a ray anything may be (in NDC: 0 and 1).
  frame: from the model frame back to the file's: world = model * scale + offset (after `rotation`, (3, 3) rows, world =
    rotation @ model * scale + offset).
  bounds: half the side of the cube around 0 that holds the object; None where the scene is unbounded (then fields
    contract space).
  ndc: rays are to be warped to normalised device coordinates (forward-facing scenes only), in which `bounds` is then meant.
  opaque: no photograph has transparent pixels.
  protocol: words that belong to every figure: {"scene", "split", "resolution", "background", "colors", ...}.
  warnings: what was mended or left out, one line each.
  """
  name: str
  views: Mapping[str, Sequence[View]]
  near: float
  far: float
  frame: Frame = Frame()
  rotation: tuple | None = None
  bounds: float | None = 1.0
  ndc: bool = False
  opaque: bool = False
  protocol: Mapping[str, str] = dataclasses.field(default_factory=dict)
  warnings: Sequence[str] = ()
