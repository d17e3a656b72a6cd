"""Render a run's field from a moving camera, as a film or as one file a frame.

The path is an orbit around the object, a spiral (scenes seen from one side), the training or test views themselves (with
--frames N: a smooth way through them), or a camera-path file of nerfstudio's form, its poses in the model frame. A film
shows what --what names side by side; a directory gets one PNG for each, and render.json with the scales; pictures that the
render.json before it lists and it does not are deleted.

depth is the distance along the ray to what is seen, in the model frame's unit: in colours, nearest brightest, over a range
that is printed; depth16 (directories only) in 16 bits, with its scale in render.json.

examples:
  fields3d render runs/mic --out mic.mp4
  fields3d render runs/fern --path spiral --frames 60 --size 504x378 --what rgb,depth --out fern.webp
  fields3d render runs/mic --path test --what rgb,depth16 --out frames/
"""

import argparse
import math
import pathlib
import re

from fields3d.commands.options import existing_dir, non_negative_int, real, whole
from fields3d.core.errors import OK, MissingInput, UsageFault, nearest, require_memory

HELP = "render a run's field as a film or as images"

PATHS = ("orbit", "spiral", "train", "test")
WHAT = ("rgb", "depth", "depth16", "normal", "opacity")
_PIXEL_BYTES = 64  # of a picture while it is made: eight float32, and the tiles that they are put together of


def size(text: str) -> tuple[int, int]:
  """An image's size "WxH".

  >>> size("800x600")
  (800, 600)
  """
  found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
  if not found or 0 in (int(found[1]), int(found[2])):
    raise argparse.ArgumentTypeError(f"{text!r:.40} is not a size such as 800x600")
  return int(found[1]), int(found[2])


def kinds(text: str) -> tuple[str, ...]:
  """A list of `WHAT`.

  >>> kinds("rgb,depth")
  ('rgb', 'depth')
  """
  names = tuple(text.split(","))
  for name in names:
    if name not in WHAT:
      raise argparse.ArgumentTypeError(f"unknown kind {name!r:.40}, {nearest(name, WHAT)}")
  return names


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument("workdir", type=existing_dir, metavar="DIR", help="the run directory")
  parser.add_argument("--out", type=pathlib.Path, required=True, metavar="PATH",
                      help="a film (.mp4, .webp, .gif, .png) or a directory for one PNG a frame")
  parser.add_argument("--path", metavar="P", help="orbit, spiral, train, test or FILE.json (default: spiral for "
                      "forward-facing scenes, else orbit)")
  parser.add_argument("--frames", type=whole(1, 100_000), metavar="N",
                      help="number of frames (default: 120; train, test and files: each of theirs)")
  parser.add_argument("--fps", type=real(ge=0.001, le=1000), metavar="F", help="frames a second (default: the file's, else 24)")
  parser.add_argument("--size", type=size, metavar="WxH", help="pixels (default: the photographs')")
  parser.add_argument("--what", type=kinds, default=("rgb",), metavar="A,B",
                      help="of rgb, depth, depth16, normal, opacity (default rgb)")
  parser.add_argument("--supersample", type=whole(1, 16), default=1, metavar="K",
                      help="average K x K rays a pixel (default %(default)s)")
  parser.add_argument("--step", type=non_negative_int, metavar="K",
                      help="a checkpoint's step (default: the newest sound one)")


def run(args: argparse.Namespace) -> int:
  from fields3d.commands.rundir import open_run
  from fields3d.core.task import lookup
  from fields3d.rendering.film import check_film

  _check_path(args.path)
  if film := bool(args.out.suffix):
    check_film(args.out)
    if "depth16" in args.what:
      raise UsageFault("--what", "depth16 fits no film", "give --out a directory, or ask for depth")
  opened = open_run(args.workdir, step=args.step)
  render = lookup(opened.predict, "render", str(args.workdir))
  cameras, fps = _cameras(opened.dataset, args)
  print(f"step {opened.step}: {len(cameras)} frames of {cameras[0].size[0]} x {cameras[0].size[1]} pixels")
  span = _depth_range(render, cameras, opened.dataset.info) if "depth" in args.what else (0.0, 1.0)
  if "depth" in args.what:
    print(f"depth is shown from {span[0]:.4g} (brightest) to {span[1]:.4g} (darkest), in units of the model frame")
  images = _images(render, cameras, opened.dataset.info, args)
  if film:
    _write_film(images, span, args, fps)
  else:
    _write_frames(images, span, args, {"run": str(args.workdir), "step": opened.step, "fps": fps})
  print(f"{args.out}{'' if film else '/'} is written")
  return OK


def _check_path(path: str | None) -> None:
  if path is not None and path not in PATHS and not pathlib.Path(path).is_file():
    if path.endswith(".json"):
      raise MissingInput(path, "no such file", "give a camera-path file that exists")
    raise UsageFault("--path", f"unknown path {path!r}", nearest(path, PATHS) + ", or FILE.json")


def _cameras(dataset, args: argparse.Namespace) -> tuple[list, float]:
  """The film's cameras, all of one size, and its frames a second."""
  import numpy as np

  from fields3d.rendering import paths

  facts, name, fps = dataset.info, args.path, 24.0
  views = dataset.views("test" if name == "test" else "train")
  given, num = [view.camera for view in views], args.frames or 120
  ndc = facts.get("ndc")
  if name not in (None, *PATHS):
    cameras, fps = paths.read_path(pathlib.Path(name))
  elif not given:
    raise UsageFault("--path", f"the run has no {'test' if name == 'test' else 'training'} views",
                     "give a camera-path file, or a run on photographs")
  elif name == "spiral" or (name is None and ndc):
    near, far = (ndc["near"], np.inf) if ndc else (facts["near"], facts["far"])
    cameras = paths.spiral(given, near, far, num)
  elif name in ("train", "test"):
    cameras = given
  else:
    cameras = paths.orbit(given, facts["bounds"], num)
  if args.frames and len(cameras) != args.frames:
    cameras = paths.through(cameras, args.frames)
  shape = args.size or cameras[0].size
  require_memory(math.prod(shape) * _PIXEL_BYTES, "--size", "lower it")
  cameras = [camera if camera.size == shape else paths.reframed(camera, shape) for camera in cameras]
  return cameras, args.fps or fps


def _depth_range(render, cameras: list, facts) -> tuple[float, float]:
  """The 2nd to 98th percentile of the depths seen, on small images of at most 8 frames."""
  import numpy as np

  from fields3d.rendering.images import render_camera
  from fields3d.rendering.paths import reframed

  chosen = cameras[::-(-len(cameras) // 8)]
  seen = []
  for camera in chosen:
    scale = min(1.0, 64 / max(camera.size))
    small = reframed(camera, tuple(max(1, round(scale * side)) for side in camera.size))
    image = render_camera(render, small, facts)
    seen.append(image["depth"][image["opacity"] > 0.5])
  seen = np.concatenate(seen)
  return tuple(float(v) for v in np.percentile(seen, (2, 98))) if len(seen) else (0.0, 1.0)


def _images(render, cameras: list, facts, args: argparse.Namespace):
  """Yields each frame's rendering; refuses, at the first, what the task's render does not give."""
  from fields3d.core.progress import progress
  from fields3d.rendering.images import render_camera

  with progress() as show:
    for i, camera in enumerate(cameras):
      image = render_camera(render, camera, facts, supersample=args.supersample,
                            progress=lambda done, total, i=i: show("frames", i + done / total, len(cameras)))
      if "normal" in args.what and "normal" not in image:
        raise UsageFault("--what", "the run's field gives no normals", "leave normal out; fields of distances have them")
      yield image


def _write_film(images, span: tuple[float, float], args: argparse.Namespace, fps: float) -> None:
  import numpy as np

  from fields3d.rendering.film import PICTURES, write_film

  write_film(args.out, (np.concatenate([PICTURES[name](image, span) for name in args.what], axis=1)
                        for image in images), fps)


def _write_frames(images, span: tuple[float, float], args: argparse.Namespace, facts: dict) -> None:
  """One PNG a frame and kind, each whole or not at all, then render.json."""
  import io

  from PIL import Image

  from fields3d.commands.folder_records import write_record
  from fields3d.core import strict_json
  from fields3d.core.errors import from_os_error
  from fields3d.rendering.film import MAP, PICTURES, depth_values

  rows = []
  strict_json.make_directory(args.out)
  try:
    for i, image in enumerate(images):
      row = {}
      for name in args.what:
        if name == "depth16":
          pixels, row["depth16_scale"] = depth_values(image)
        else:
          pixels = PICTURES[name](image, span)
        packed = io.BytesIO()
        Image.fromarray(pixels).save(packed, "PNG")
        row[name] = f"{i:05d}.{name}.png"
        strict_json.replace(args.out / row[name], packed.getvalue())
      rows.append(row)
  except OSError as error:
    raise from_os_error(error, args.out) from error
  about = {"depth": {"from": span[0], "to": span[1], "colors": MAP}} if "depth" in args.what else {}
  about |= {"depth16": "depth = value * depth16_scale, in units of the model frame; 0 sees nothing"} \
      if "depth16" in args.what else {}
  write_record(args.out / "render.json", {**facts, **about, "frames": rows})
