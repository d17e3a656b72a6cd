"""The live view of a run, by viser: what a browser's camera sees of the field, coarse first and then finer."""

import pathlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from fields3d.core.errors import Unavailable
from fields3d.core.types import Camera
from fields3d.rendering.images import render_camera
from fields3d.rendering.paths import centre_of, orbit, up_of

COARSEST = 64  # rows of pixels while the camera moves
MESHES = 32  # shown at most


def check_viser():
  """The library, or a fault that names its extra."""
  try:
    import viser
  except ImportError as error:
    raise Unavailable("viser", "is not installed, and the live view needs it",
                      "pip install 'fields3d[view]', or use --static FILE.html") from error
  return viser


def browser_camera(wxyz: Sequence[float], position: Sequence[float], fov: float, aspect: float, height: int) -> Camera:
  """The camera of a browser: wxyz and position to the world, looking along +z with +y down; fov vertical, radians.

  >>> browser_camera((1, 0, 0, 0), (0, 0, 2), np.pi / 2, 1.5, 20).pose.astype(int).tolist()
  [[1, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 2]]
  """
  turn = Rotation.from_quat(np.asarray(wxyz), scalar_first=True).as_matrix() * (1, -1, -1)
  width, focal = max(1, round(height * aspect)), height / 2 / np.tan(fov / 2)
  pose = np.concatenate([turn, np.asarray(position, np.float64)[:, None]], axis=1)
  return Camera("PINHOLE", (width, height), (focal, focal, width / 2, height / 2), (), pose)


def refinements(height: int) -> list[int]:
  """Rows of pixels of the renderings of one place, coarse to fine.

  >>> refinements(400)
  [64, 160, 400]
  """
  steps = [height]
  while steps[-1] > 2 * COARSEST:
    steps.append(max(COARSEST, round(steps[-1] / 2.5)))
  return steps[::-1]


def renderings(render: Callable, facts: Mapping[str, Any], see: Callable[[int], Camera], height: int,
               stale: Callable[[], bool]) -> Iterator[np.ndarray]:
  """Yields ever finer images (h, w, 3) float32 of one place, until all are made or the place is out of date.

  Args:
    see: rows of pixels -> the camera. stale: whether the browser's camera has moved since.
  """
  for rows in refinements(height):
    if stale():
      return
    yield render_camera(render, see(rows), facts)["rgb"]


class _Client:
  """One browser: a thread that renders the place where its camera last was."""

  def __init__(self, client, render: Callable, facts: Mapping[str, Any], height: int):
    self._client, self._render, self._facts, self._height = client, render, facts, height
    self._moved, self._gone = threading.Event(), False
    client.camera.on_update(lambda camera: self._moved.set())
    self._moved.set()
    threading.Thread(target=self._run, daemon=True).start()

  def close(self) -> None:
    self._gone = True
    self._moved.set()

  def _run(self) -> None:
    while self._moved.wait() and not self._gone:
      self._moved.clear()
      lens = self._client.camera
      place = lens.wxyz, lens.position, lens.fov, lens.aspect
      see = lambda rows, place=place: browser_camera(*place, rows)
      for rgb in renderings(self._render, self._facts, see, self._height, self._moved.is_set):
        self._client.scene.set_background_image((255 * np.clip(rgb, 0, 1)).astype(np.uint8), format="jpeg")


def start(opened, meshes: Sequence[pathlib.Path], host: str, port: int, height: int):
  """The running server: cameras as frusta, meshes (hidden where a field is rendered), a renderer for each browser."""
  viser = check_viser()
  server = viser.ViserServer(host=host, port=port, verbose=False)  # takes the next free port where this one is taken
  facts, render = opened.dataset.info, opened.predict.get("render")
  cameras = [view.camera for view in opened.dataset.views("train")]
  server.scene.set_up_direction("+y")
  if cameras:
    _show_cameras(server, cameras, facts)
  for path in meshes[:MESHES]:
    server.scene.add_glb(f"/meshes/{path.stem}", path.read_bytes(), visible=render is None and path == meshes[0])
  if render is not None:
    clients = {}
    server.on_client_connect(lambda c: clients.__setitem__(c.client_id, _Client(c, render, facts, height)))
    server.on_client_disconnect(lambda c: clients.pop(c.client_id).close())
  return server


def _show_cameras(server, cameras: Sequence[Camera], facts: Mapping[str, Any]) -> None:
  bounds = np.asarray(facts["bounds"], np.float64)
  server.scene.set_up_direction(tuple(up_of(cameras)))
  first = orbit(cameras, bounds, 1)[0] if not facts.get("ndc") else cameras[0]
  server.initial_camera.position = tuple(first.pose[:, 3])
  server.initial_camera.look_at = tuple(centre_of(cameras, bounds))
  for i, camera in enumerate(cameras):
    wxyz = Rotation.from_matrix(camera.pose[:, :3] * (1, -1, -1)).as_quat(scalar_first=True)
    server.scene.add_camera_frustum(
        f"/cameras/{i}", fov=2 * np.arctan(camera.size[1] / 2 / camera.intrinsics[1]),
        aspect=camera.size[0] / camera.size[1], scale=0.08, wxyz=wxyz, position=camera.pose[:, 3], visible=False)


def serve(opened, meshes: Sequence[pathlib.Path], host: str, port: int, height: int) -> None:
  """Serves until interrupted."""
  server = start(opened, meshes, host, port, height)
  port = server.get_port()
  print(f"step {opened.step}: http://{host}:{port}; from another machine: ssh -L {port}:127.0.0.1:{port} USER@HERE, "
        f"then http://127.0.0.1:{port}; Ctrl-C ends it", flush=True)
  try:
    threading.Event().wait()
  except KeyboardInterrupt:
    print("ended")
  finally:
    server.stop()
