"""The study: blind and balanced pages, a server for this machine alone, choices kept whole, and preferences from them."""

import http.client
import json
import pathlib
import re
import shutil
import subprocess
import threading

import numpy as np
import pytest
from PIL import Image

from fields3d.commands import main, study_plan
from fields3d.commands.study_plan import (
    Choices,
    as_choices,
    make_study,
    payload,
    presentation,
    read_choices,
    read_study,
    write_study,
)
from fields3d.commands.study_server import Server
from fields3d.core.errors import BadData, Fault, UsageFault
from fields3d.core.types import Mesh
from fields3d.extraction.export import export

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
TETRAHEDRON = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])


def pictures(folder, names, grey=0):
  folder.mkdir()
  for i, name in enumerate(names):
    Image.new("L", (8, 6), grey + i).save(folder / f"{name}.png")
  return folder


@pytest.fixture
def folders(tmp_path):
  """Three runs' pictures: a and b share two names, c has all three."""
  return [pictures(tmp_path / "a", ["x", "y", "only a"]), pictures(tmp_path / "b", ["x", "y"], 50),
          pictures(tmp_path / "c", ["x", "y", "only a"], 100)]


@pytest.fixture
def study(folders, tmp_path):
  plan, _ = make_study(folders, ["a", "b", "c"], seed=1)
  write_study(tmp_path / "study", plan)
  return plan


@pytest.fixture
def server(study, tmp_path):
  made = Server(study, tmp_path / "study", 0)
  threading.Thread(target=made.serve_forever, args=(0.02,), daemon=True).start()
  yield made
  made.shutdown()
  made.server_close()


def ask(server, method, path, body=None, **headers):
  connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=20)
  connection.putrequest(method, path, skip_host="Host" in headers)
  if body is not None:
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body))} | headers
  for name, value in headers.items():
    connection.putheader(name, value)
  connection.endheaders(body)
  answer = connection.getresponse()
  text = answer.read().decode()
  connection.close()
  return answer.status, text


def choose(server, **changes):
  line = {"rater": 1, "trial": 0, "choice": "left", "seconds": 1.5} | changes
  return ask(server, "POST", "/choice", json.dumps(line).encode())[0]


def test_trials_are_the_shared_names_of_every_pair_and_spread_evenly(folders):
  plan, possible = make_study(folders, "abc")
  assert possible == len(plan.trials) == 2 + 3 + 2
  assert {(t.item, t.runs) for t in plan.trials} == {(n, p) for n in "xy" for p in [(0, 1), (0, 2), (1, 2)]} | {("only a", (0, 2))}
  few, _ = make_study(folders, "abc", num=3)
  assert {t.runs for t in few.trials} == {(0, 1), (0, 2), (1, 2)}
  loose, possible = make_study(folders[:2], "ab", unpaired=True)
  assert possible == 2 and all(" and " in t.item for t in loose.trials)


def test_order_and_sides_are_random_but_the_raters_own(study):
  plan = study_plan.Study(study.question, "picture", 1, study.labels, study.trials * 60, study.digests)
  shown = {rater: presentation(plan, rater) for rater in (1, 2)}
  assert shown[1] == presentation(plan, 1) != shown[2]
  for order in shown.values():
    assert sorted(t for t, _ in order) == list(range(420))
    assert abs(sum(swapped for _, swapped in order) - 210) < 4 * np.sqrt(420 / 4)


def test_nothing_in_a_page_tells_the_runs_apart(study, server):
  status, text = ask(server, "GET", "/?rater=3")
  assert status == 200
  given = json.loads(re.search(r'id="study">(.*?)</script>', text)[1])
  assert given == payload(study, 3, {}, "server") and given["rater"] == 3
  for word in (*(str(pathlib.Path(f).parent) for f in study.digests), *(pathlib.Path(f).name for f in study.digests), '"item"'):
    assert word not in text
  for trial in given["trials"]:
    assert {ask(server, "GET", f"/asset/{trial[side]}")[0] for side in ("left", "right")} == {200}


def test_the_page_runs_only_our_scripts_and_asks_only_us(server):
  text = ask(server, "GET", "/")[1]
  assert "default-src 'none'" in text and text.count("'sha256-") == 2 and "connect-src 'self'" in text
  assert not re.search(r'(src|href)="(?!data:)', text) and "//" not in re.search(r"<head>.*?<style>", text, re.DOTALL)[0]


def test_a_choice_is_a_line_and_the_last_one_counts(study, server, tmp_path):
  assert [choose(server), choose(server, choice="tie"), choose(server, rater=2, trial=3, choice="right")] == [204] * 3
  lines = (tmp_path / "study" / "choices.jsonl").read_text().splitlines()
  assert [json.loads(line)["choice"] for line in lines] == ["left", "tie", "right"]
  assert set(json.loads(lines[0])) == {"study", "rater", "trial", "choice", "seconds"}  # no person, no clock
  assert read_choices(tmp_path / "study", study) == ({(1, 0): "tie", (2, 3): "right"}, [])
  assert json.loads(re.search(r'id="study">(.*?)</script>', ask(server, "GET", "/")[1])[1])["done"] == {"0": "tie"}


def test_many_raters_at_once_lose_no_line(study, server, tmp_path):
  threads = [threading.Thread(target=choose, args=(server,), kwargs={"rater": r}) for r in range(1, 25)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert len(read_choices(tmp_path / "study", study)[0]) == 24


@pytest.mark.parametrize("bad", [{"trial": 7}, {"trial": True}, {"trial": -1}, {"rater": 0}, {"choice": "best"}, {"seconds": "1"},
                                 {"seconds": -1}, {"rater": 10**9}])
def test_what_is_no_choice_is_refused(server, tmp_path, bad):
  assert choose(server, **bad) == 400 and not (tmp_path / "study" / "choices.jsonl").exists()


def test_requests_from_elsewhere_too_long_or_astray_are_refused(server, tmp_path):
  body, port = b'{"rater":1,"trial":0,"choice":"left"}', server.server_address[1]
  assert server.server_address[0] == "127.0.0.1"
  for host in ("evil.example", f"evil.example:{port}", "", f"127.0.0.1.evil.example:{port}", "127.0.0.1:x"):
    assert ask(server, "GET", "/", Host=host)[0] == 403, host
    assert ask(server, "POST", "/choice", body, Host=host)[0] == 403, host
  for origin in ("http://evil.example", "null", f"http://127.0.0.1:{port + 1}"):
    assert ask(server, "POST", "/choice", body, Origin=origin)[0] == 403, origin
  assert ask(server, "POST", "/choice", body, **{"Content-Type": "text/plain"})[0] == 415
  assert ask(server, "POST", "/choice", body, **{"Content-Length": "99999999"})[0] == 413
  assert ask(server, "POST", "/choice", body, **{"Content-Length": "-1"})[0] == 411
  for text in (b"{", b"[]", b"null", b'{"rater": NaN}', b"\xff", b"[" * 1000):
    assert ask(server, "POST", "/choice", text)[0] == 400, text
  name = next(iter(server.assets))
  for path in ("/study.json", "/asset/", "/asset/../study.json", f"/asset/{name}/..", "/asset/%2e%2e/study.json", f"/{name}",
               "/asset//etc/passwd", f"/asset/{name}%00"):
    assert ask(server, "GET", path)[0] == 404, path
  for rater in ("0", "x", "-1", "1e3", "100000000000"):
    assert ask(server, "GET", f"/?rater={rater}")[0] == 400, rater
  assert ask(server, "PUT", "/choice", b"")[0] == 501
  assert [p.name for p in (tmp_path / "study").iterdir()] == ["study.json"]
  assert ask(server, "GET", "/", Host=f"localhost:{port}")[0] == 200 and choose(server) == 204


def test_a_torn_line_stands_alone_and_is_counted(study, tmp_path):
  path = tmp_path / "study" / "choices.jsonl"
  path.write_text('{"study": "other", "rater": 1, "trial": 0, "choice": "tie"}\n{"study": "' + study.fingerprint)
  Choices(tmp_path / "study", study).add({"rater": 1, "trial": 2, "choice": "tie"})
  found, warnings = read_choices(tmp_path / "study", study)
  assert found == {(1, 2): "tie"} and len(warnings) == 2


def test_a_rater_who_always_takes_one_run_gives_it_everything(study, tmp_path, capsys):
  best = {0: 2, 1: 1, 2: 0}  # preference of a over b over c
  for rater in (1, 2):
    for t, swapped in presentation(study, rater):
      first, second = study.trials[t].runs
      wants_first = best[first] > best[second]
      Choices(tmp_path / "study", study).add({"rater": rater, "trial": t, "choice": "left" if wants_first != swapped else "right"})
  found = as_choices(study, read_choices(tmp_path / "study", study)[0])
  assert {choice.score for choice in found} == {1.0}
  assert main.main(["study", str(tmp_path / "study"), "--results"]) == 65
  assert "b, c" in capsys.readouterr().err  # a never lost: no finite strengths
  for trial in range(7):
    Choices(tmp_path / "study", study).add({"rater": 3, "trial": trial, "choice": "tie"})
  assert main.main(["study", str(tmp_path / "study"), "--results"]) == 0
  shown = capsys.readouterr().out
  assert "a over b" in shown and "95% over raters" in shown and "the left side was chosen" in shown
  assert main.main(["study", str(tmp_path / "study"), "--results", "--json"]) == 0
  told = json.loads(capsys.readouterr().out)
  assert [s["run"] for s in told["strengths"]] == ["a", "b", "c"] and told["num_raters"] == 3
  assert told["shares"][0]["share"] == pytest.approx((4 + 2 / 2) / 6) and told["shares"][0]["ties"] == 2


def test_a_plan_is_read_back_and_changed_files_are_named(study, tmp_path):
  assert read_study(tmp_path / "study") == study
  write_study(tmp_path / "study", study)  # the same study again
  with pytest.raises(UsageFault, match="holds another study"):
    write_study(tmp_path / "study", make_study([tmp_path / "a", tmp_path / "b"], "ab")[0])
  Image.new("L", (8, 6), 200).save(tmp_path / "b" / "x.png")
  with pytest.raises(BadData, match="x.png: has changed since the study began"):
    read_study(tmp_path / "study")
  text = (tmp_path / "study" / "study.json").read_text()
  (tmp_path / "study" / "study.json").write_text(text.replace('"seed": 1', '"seed": 2'))
  with pytest.raises(BadData, match="does not match its own fingerprint"):
    read_study(tmp_path / "study")


@pytest.mark.parametrize(("name", "content"), [("a.png", b"<html>"), ("a.png", b""), ("a.glb", b""),
                                               ("a.glb", b"glTF\x02\0\0\0\xff\0\0\0")])
def test_files_that_are_not_what_they_say_are_refused(tmp_path, name, content):
  for folder in ("p", "q"):
    (tmp_path / folder).mkdir()
    (tmp_path / folder / name).write_bytes(content)
  with pytest.raises(BadData, match=name):
    make_study([tmp_path / "p", tmp_path / "q"], "pq")


def test_wrong_usage_is_one_line(folders, tmp_path, capsys):
  names = [str(folder) for folder in folders]
  empty, other = tmp_path / "empty", pictures(tmp_path / "other", ["z"])
  empty.mkdir()
  for words, code in (([*names[:2]], 2), ([names[0]], 66), ([*names[:2], "--results"], 2), ([names[0], "--json"], 2),
                      ([names[0], str(empty), "--out", "o"], 2), ([names[0], str(other), "--out", "o"], 2),
                      ([*names, "--kind", "model", "--out", "o"], 2)):
    assert main.main(["study", *words]) == code, words
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_runs_give_their_samples_or_what_their_evaluation_wrote(tmp_path):
  from fields3d.evaluation.records import Record, write_record
  from fields3d.evaluation.results import Evaluation, Row
  run = tmp_path / "run"
  (run / "eval" / "7" / "test").mkdir(parents=True)
  (run / "config.json").write_text("{}")
  for name in ("0.png", "0.glb", "t.png"):
    (run / "eval" / "7" / "test" / name).touch()
  rows = [Row("chair", "", 0, "ok", files={"mesh": "0.glb", "picture": "0.png", "truth_picture": "t.png"})]
  write_record(run / "eval" / "7.json", Record(7, "", {}, None, {"test": Evaluation("geometry", (), rows)}))
  found = study_plan.samples(run)
  assert found["model"]["test/chair"].name == "0.glb" and found["picture"]["test/chair"].name == "0.png"
  (run / "samples").mkdir()
  (run / "samples" / "0000.glb").touch()
  assert list(study_plan.samples(run)["model"]) == ["0000"]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_a_browser_shows_a_pair_of_models(tmp_path):
  for folder, size in (("p", 1.0), ("q", 2.0)):
    (tmp_path / folder).mkdir()
    export(Mesh(size * np.eye(4, 3), TETRAHEDRON), tmp_path / folder / "t.glb")
  write_study(tmp_path / "s", make_study([tmp_path / "p", tmp_path / "q"], "pq")[0])
  assert main.main(["study", str(tmp_path / "s"), "--static", "--rater", "4"]) == 0
  flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--use-gl=angle", "--use-angle=swiftshader",
           "--enable-unsafe-swiftshader", "--disable-background-networking", "--virtual-time-budget=3000",
           f"--user-data-dir={tmp_path / 'browser'}", "--dump-dom", (tmp_path / "s" / "study-4.html").as_uri()]
  shown = subprocess.run([CHROMIUM, *flags], capture_output=True, text=True, timeout=120, check=True).stdout
  assert ">0 of 1</span>" in shown and re.search(r'data-panes="2"', shown)
  assert not re.search(r'data-choice="left"[^>]*disabled', shown)


def test_too_large_a_static_page_is_refused(study, tmp_path, monkeypatch):
  monkeypatch.setattr("fields3d.commands.study_server.STATIC_BYTES", 10)
  with pytest.raises(Fault, match="fewer --trials"):
    from fields3d.commands.study_server import page
    page(study, tmp_path / "study", 1, static=True)
