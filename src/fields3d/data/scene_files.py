"""Any scene of photographs, by what its folder holds."""

import os
import pathlib
from typing import Literal

from fields3d.core import strict_json
from fields3d.core.errors import MissingInput
from fields3d.data.scene import Scene
from fields3d.data.scene_colmap import load_colmap
from fields3d.data.scene_llff import load_llff
from fields3d.data.scene_transforms import load_blender, load_transforms

Kind = Literal["blender", "transforms", "colmap", "llff"]
LOADERS = {"blender": load_blender, "transforms": load_transforms, "colmap": load_colmap, "llff": load_llff}


def open_scene(path: str | os.PathLike, kind: Kind | None = None) -> Scene:
  """The scene in a folder, with its loader's defaults; `kind` None takes what `kind_of` says.

  Raises:
    MissingInput, BadData: as the loader.
  """
  return LOADERS[kind or kind_of(path)](path)


def kind_of(path: str | os.PathLike) -> Kind:
  """Which loader a folder, or a transforms.json, is for.

  Raises:
    MissingInput: nothing there that any of them reads.
  """
  path = pathlib.Path(path)
  if path.suffix == ".json":
    return "transforms"
  if (path / "transforms_train.json").is_file() and not (path / "transforms.json").is_file():
    content = strict_json.read(path / "transforms_train.json")
    return "transforms" if isinstance(content, dict) and content.keys() & {"fl_x", "aabb_scale"} else "blender"
  if (path / "transforms.json").is_file():
    return "transforms"
  if (path / "poses_bounds.npy").is_file():
    return "llff"
  if (path / "sparse").is_dir() or (path / "colmap" / "sparse").is_dir():
    return "colmap"
  raise MissingInput(path, "no scene there", "give a folder with transforms*.json, poses_bounds.npy or sparse/")
