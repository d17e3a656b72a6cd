"""Look at a run: its field as seen from the browser's camera, its cameras, and the meshes in its folder.

A server on this machine renders the field, coarse while the camera moves, then finer (needs viser: pip install
'fields3d[view]'). It listens to this machine only; from another, open the ssh tunnel that it prints. --host other than
127.0.0.1 lets anyone in that network look and turn.

--static writes one HTML file instead, which needs no server and no network: the field rendered from a grid of places to
drag between, and the meshes (without their textures).

Meshes are those of DIR/meshes, where extract writes them, and sample --out DIR/meshes those of a run that draws shapes.

examples:
  fields3d view runs/mic
  fields3d view runs/mic --static mic.html --height 320
"""

import argparse
import pathlib
from collections.abc import Callable, Mapping

from fields3d.commands.options import existing_dir, non_negative_int, whole
from fields3d.core.errors import OK, UsageFault

HELP = "look at a run in a browser, or as one static page"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument("workdir", type=existing_dir, metavar="DIR", help="the run directory")
  parser.add_argument("--static", type=pathlib.Path, metavar="FILE", help="write this HTML file, and start no server")
  parser.add_argument("--host", default="127.0.0.1", metavar="H", help="address to listen on (default %(default)s)")
  parser.add_argument("--port", type=whole(1, 65535), default=8080, metavar="P",
                      help="port to listen on (default %(default)s)")
  parser.add_argument("--height", type=whole(16, 4096), default=400, metavar="N",
                      help="rows of pixels of the finest rendering (default %(default)s)")
  parser.add_argument("--step", type=non_negative_int, metavar="K",
                      help="a checkpoint's step (default: the newest sound one)")


def run(args: argparse.Namespace) -> int:
  if args.static is None:
    from fields3d.commands.live_view import check_viser
    check_viser()
  from fields3d.commands.rundir import open_run

  opened = open_run(args.workdir, step=args.step)
  meshes = sorted((args.workdir / "meshes").glob("*.glb"))
  if not meshes and "render" not in opened.predict:
    raise UsageFault(args.workdir, "there is nothing to see yet", _first(args.workdir, opened.predict))
  if args.static is not None:
    from fields3d.commands.static_view import write_page
    write_page(opened, meshes, args.static, args.height)
    print(f"{args.static} is written: {args.static.stat().st_size / 2**20:.1f} MiB, open it with any browser")
  else:
    from fields3d.commands.live_view import serve
    serve(opened, meshes, args.host, args.port, args.height)
  return OK


def _first(workdir: pathlib.Path, predict: Mapping[str, Callable]) -> str:
  """The command that gives a run its meshes.

  >>> _first("runs/gan", {"sample": None, "points": None})
  'run fields3d sample runs/gan --out runs/gan/meshes --surfaces RUN first'
  """
  if "code" in predict or "sample" not in predict:
    return f"run fields3d extract {workdir} first"
  surfaces = "" if "sdf" in predict else " --surfaces RUN"
  return f"run fields3d sample {workdir} --out {workdir}/meshes{surfaces} first"
