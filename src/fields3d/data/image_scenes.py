"""Datasets of posed photographs: each loader of scenes as a factory, with the section that says how pixels are drawn."""

import functools
import inspect
import types
import typing
from collections.abc import Callable
from typing import Annotated

from fields3d.core.config import From, Table
from fields3d.core.types import Dataset
from fields3d.data.rays import PixelDraws, scene_dataset
from fields3d.data.scene_colmap import load_colmap
from fields3d.data.scene_llff import load_llff
from fields3d.data.scene_transforms import load_blender, load_transforms

Draws = Annotated[PixelDraws, From({"uniform": PixelDraws})]


def dataset_of(load: Callable) -> Callable[..., Dataset]:
  """A dataset's factory from a scene's loader: its arguments, and `draws`, a section of `PixelDraws`.

  >>> from fields3d.data.scene import Scene
  >>> def load(width: int = 8) -> Scene: ...
  >>> list(inspect.signature(dataset_of(load)).parameters)
  ['width', 'draws']
  """
  @functools.wraps(load)
  def factory(*, draws=types.MappingProxyType({}), **arguments):
    draws = draws if isinstance(draws, PixelDraws) else PixelDraws(**draws)
    return scene_dataset(load(**arguments), draws)

  signature = inspect.signature(load)
  more = inspect.Parameter("draws", inspect.Parameter.KEYWORD_ONLY, default=types.MappingProxyType({}), annotation=Draws)
  factory.__signature__ = signature.replace(parameters=[*signature.parameters.values(), more])
  factory.__annotations__ = typing.get_type_hints(load, include_extras=True) | {"draws": Draws, "return": Dataset}
  return factory


SCENES: Table = {
    "blender": dataset_of(load_blender),
    "transforms": dataset_of(load_transforms),
    "colmap": dataset_of(load_colmap),
    "llff": dataset_of(load_llff),
}
