"""The page of a study, and the server that shows it to this machine alone and takes the choices."""

import base64
import html
import http.server
import importlib.resources
import pathlib
import string
import urllib.parse

from fields3d.commands.study_plan import KINDS, MOST_RATERS, Choices, Study, asset, payload, read_choices
from fields3d.core.errors import BadData, Fault, UsageFault
from fields3d.core.strict_json import loads
from fields3d.evaluation.report import csp_hash, json_element

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
BODY_BYTES = 1024
STATIC_BYTES = 200 << 20  # Of base64 text in a static page.
_TYPES = {".glb": "text/plain", ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp"}


def page(study: Study, folder: pathlib.Path, rater: int, static: bool = False) -> str:
  """The page of a rater: with everything in it if `static`, else it asks the server for one pair at a time."""
  done = {trial: choice for (own, trial), choice in read_choices(folder, study)[0].items() if own == rater}
  viewer, script = _resource("evaluation", "viewer.js"), _resource("commands", "study_page.js")
  mode, images, asked = ("static", "data:", "'none'") if static else ("server", "data: 'self'", "'self'")
  return string.Template(_resource("commands", "study_page.html")).substitute(
      policy=f"default-src 'none'; img-src {images}; connect-src {asked}; style-src 'unsafe-inline'; "
             f"base-uri 'none'; form-action 'none'; script-src {csp_hash(viewer)} {csp_hash(script)}",
      question=html.escape(study.question), style=_resource("evaluation", "report.css"),
      payload=json_element("study", payload(study, rater, done, mode)) + (_embedded(study) if static else ""),
      viewer_script=viewer, study_script=script)


def _embedded(study: Study) -> str:
  """Every file as an element with its base64 text."""
  parts, size = {}, 0
  for file in study.digests:
    if (name := asset(study, file)) not in parts:
      parts[name] = encoded(file)
      size += len(parts[name])
    if size > STATIC_BYTES:
      raise UsageFault("--static", f"the page would hold more than {STATIC_BYTES >> 20} MiB",
                       "use fewer --trials or smaller files, or leave --static out")
  return "".join(f'<script type="application/octet-stream" id="{name}">{text}</script>\n' for name, text in parts.items())


def encoded(file: str) -> str:
  """A file as the page takes it: base64 of a model, the data address of a picture."""
  path = pathlib.Path(file)
  text = base64.b64encode(path.read_bytes()).decode()
  return text if path.suffix.lower() in KINDS["model"] else f"data:{_TYPES[path.suffix.lower()]};base64,{text}"


def _resource(room: str, name: str) -> str:
  return importlib.resources.files(f"fields3d.{room}").joinpath(name).read_text("utf-8")


class Server(http.server.ThreadingHTTPServer):
  """The server of one study, on 127.0.0.1 only; port 0 takes a free one."""
  daemon_threads = True
  allow_reuse_address = True
  request_queue_size = 128  # the library's 5 resets connections where a class of raters chooses at once

  def __init__(self, study: Study, folder: pathlib.Path, port: int):
    self.study, self.folder, self.choices = study, folder, Choices(folder, study)
    self.assets = {asset(study, file): file for file in study.digests}
    super().__init__(("127.0.0.1", port), Handler)


class Handler(http.server.BaseHTTPRequestHandler):
  """GET / (a rater's page), GET /asset/NAME, POST /choice; for this machine's own browser alone.

  The Host header must name this machine, lest a page elsewhere reach us by a name that it points here; a choice must
  come from our own page. No path of a request ever becomes a path of a file.
  """
  server: Server
  timeout = 30
  server_version, sys_version = "fields3d", ""

  def do_GET(self) -> None:
    if not self._is_local():
      return self._answer(403, "this server answers to 127.0.0.1 only")
    try:
      address = urllib.parse.urlsplit(self.path)
    except ValueError:
      return self._answer(400, "no such address")
    if address.path == "/":
      return self._page(urllib.parse.parse_qs(address.query).get("rater", ["1"])[0])
    if address.path.startswith("/asset/"):
      return self._asset(address.path.removeprefix("/asset/"))
    return self._answer(404, "no such page")

  def do_POST(self) -> None:
    if not self._is_local() or self.headers.get("Origin") not in (None, f"http://{self.headers.get('Host')}"):
      return self._answer(403, "choices are taken from our own page only")
    if self.path != "/choice":
      return self._answer(404, "no such page")
    if self.headers.get("Content-Type") != "application/json":
      return self._answer(415, "a choice is application/json")
    length = self.headers.get("Content-Length", "")
    if not (length.isascii() and length.isdecimal() and len(length) < 10):
      return self._answer(411, "the length is missing")
    if int(length) > BODY_BYTES:
      return self._answer(413, "a choice is shorter")
    try:
      self.server.choices.add(loads(self.rfile.read(int(length)).decode("utf-8"), "choice"))
    except (UnicodeDecodeError, BadData) as error:
      return self._answer(400, str(error))
    except Fault as error:
      return self._answer(500, str(error))
    return self._answer(204, "")

  def _is_local(self) -> bool:
    name, _, port = (self.headers.get("Host") or "").rpartition(":")
    host = name if port.isdecimal() else self.headers.get("Host")
    return host in LOOPBACK and len(self.headers.get_all("Host", [])) == 1

  def _page(self, rater: str) -> None:
    if not (rater.isascii() and rater.isdecimal() and len(rater) <= 6 and 1 <= int(rater) <= MOST_RATERS):
      return self._answer(400, f"a rater is a number from 1 to {MOST_RATERS}")
    return self._answer(200, page(self.server.study, self.server.folder, int(rater)), "text/html; charset=utf-8")

  def _asset(self, name: str) -> None:
    file = self.server.assets.get(name)
    if file is None:
      return self._answer(404, "no such sample")
    try:
      return self._answer(200, encoded(file))
    except OSError:
      return self._answer(500, "the sample cannot be read any more")

  def _answer(self, code: int, text: str, kind: str = "text/plain; charset=utf-8") -> None:
    content = text.encode()
    self.send_response(code)
    for name, value in (("Content-Type", kind), ("Content-Length", str(len(content))), ("Cache-Control", "no-store"),
                        ("X-Content-Type-Options", "nosniff"), ("X-Frame-Options", "DENY"), ("Connection", "close"),
                        ("Referrer-Policy", "no-referrer"), ("Cross-Origin-Resource-Policy", "same-origin")):
      self.send_header(name, value)
    self.end_headers()
    self.wfile.write(content)

  def log_message(self, *words) -> None:
    """Says nothing: a record of requests would be a record of people."""
    del words
