"""Config building: every wrong setting is one line that names its flag and the nearest known one."""

import math
from collections.abc import Mapping
from typing import Annotated, Literal

import pytest

from fields3d.core.config import Count, Fraction, From, Given, Positive, build, check, override, parse_override
from fields3d.core.errors import UsageFault
from fields3d.core.schedules import SCHEDULES, Curriculum, Rate, as_schedule, at


def wheel(radius: Positive = 1.0, spokes: Count = 8):
  return ("wheel", radius, spokes)


def car(wheel: Annotated[tuple, From({"wheel": wheel})], doors: Literal["two", "four"] = "two", name_tag: str = "",
        gears: tuple[int, ...] = (1, 2), size: tuple[float, float] = (1, 2), load: Fraction | None = None, rate: Rate = 0.1,
        seats: Mapping[str, int] | None = None, tow: Curriculum | None = None, info: Annotated[dict, Given()] = None):
  return {"wheel": wheel, "doors": doors, "gears": gears, "load": load, "rate": rate, "info": info}


CARS = {"car": car}


def test_sections_build_depth_first_and_given_values_arrive():
  made = build(CARS, {"name": "car", "wheel": {"name": "wheel", "radius": 2}, "load": 1}, "task", info={"n": 3})
  assert made["wheel"] == ("wheel", 2.0, 8) and made["info"] == {"n": 3} and made["load"] == 1.0
  assert float(made["rate"](9)) == pytest.approx(0.1)


def test_the_word_none_of_a_flag_is_a_choice_where_it_is_one():
  def penalised(penalty: Literal["none", "r1"] = "r1", name: str | None = "a"):
    return penalty, name

  section = {"name": "penalised"}
  override(section, "penalty", "none")
  assert build({"penalised": penalised}, section) == ("none", "a")


def test_a_table_of_one_needs_no_name():
  assert build({"wheel": wheel}, {"spokes": 3}) == ("wheel", 1.0, 3)


@pytest.mark.parametrize("section, says", [
    ({"name": "cra"}, "--config.task.name: unknown name 'cra'; did you mean 'car'"),
    ({}, "--config.task.wheel: is not set"),
    ({"wheel": {}, "dors": 2}, "--config.task.dors: no such setting; did you mean 'doors'"),
    ({"wheel": {}, "nmae": "car"}, "--config.task.nmae: no such setting; did you mean 'name'"),
    ({"wheel": {"radius": -1}}, "--config.task.wheel.radius: -1.0 is out of range; give a number above 0"),
    ({"wheel": {"radius": math.nan}}, "--config.task.wheel.radius: nan is not finite"),
    ({"wheel": {"radius": math.inf}}, "--config.task.wheel.radius: inf is not finite"),
    ({"wheel": {"radius": 10**400}}, "--config.task.wheel.radius: inf is not finite"),
    ({"wheel": {"radius": "2"}}, "--config.task.wheel.radius: expected float, got str '2'"),
    ({"wheel": {"spokes": 2.5}}, "--config.task.wheel.spokes: expected int, got float 2.5"),
    ({"wheel": {"spokes": True}}, "--config.task.wheel.spokes: expected int, got bool True"),
    ({"wheel": {"spokes": 0}}, "--config.task.wheel.spokes: 0 is out of range; give a number at least 1"),
    ({"wheel": 3}, "--config.task.wheel: expected a section"),
    ({"wheel": "dict(name='round')"}, '--config.task.wheel: expected a section, as {"name": NAME, ...}, got'),
    ({"wheel": {}, "doors": "fuor"}, "--config.task.doors: unknown value 'fuor'; did you mean 'four'"),
    ({"wheel": {}, "gears": (1, "b")}, r"--config.task.gears\[1\]: expected int"),
    ({"wheel": {}, "size": (1,)}, "--config.task.size: expected 2 values, got 1"),
    ({"wheel": {}, "size": [1, 2, 3]}, "--config.task.size: expected 2 values, got 3"),
    ({"wheel": {}, "load": 1.5}, "--config.task.load: 1.5 is out of range; give a number at least 0 and at most 1"),
    ({"wheel": {}, "rate": -0.1}, "--config.task.rate: -0.1 is out of range"),
    ({"wheel": {}, "rate": {"name": "cosine", "start": -1.0, "end": 0.0, "steps": 3}}, "task.rate.start: -1.0 is out of"),
    ({"wheel": {}, "rate": 10**400}, "--config.task.rate.value: inf is not finite"),
    ({"wheel": {}, "rate": {"name": "cosin"}}, "--config.task.rate.name: unknown name 'cosin'; did you mean 'cosine'"),
    ({"name": ["car"]}, r"--config.task.name: unknown name \['car'\]"),
    ({"wheel": {3: 1}}, "--config.task.wheel: 3 is no name; give text, in quotes"),
    ({"wheel": {}, "seats": {(1, 2): 1}}, r"--config.task.seats: \(1, 2\) is no name"),
    ({"wheel": {}, "tow": {1: 0.5}}, "--config.task.tow: 1 is no name"),
    ({"wheel": {}, "info": {}}, "--config.task.info: no such setting"),
])
def test_every_wrong_setting_is_named_alike_by_check_and_build(section, says):
  for act in (lambda: check(CARS, {"name": "car", **section}, "task"),
              lambda: build(CARS, {"name": "car", **section}, "task", info={})):
    with pytest.raises(UsageFault, match=says) as caught:
      act()
    assert "\n" not in str(caught.value)


def test_check_makes_nothing():
  made = []

  def costly(size: Count = 1):
    made.append(size)

  check({"costly": costly}, {"name": "costly"})
  assert not made


def test_overrides_take_the_type_that_stands_there():
  config = {"a": {"lr": 1e-3, "families": ["x"], "levels": [1, 2], "label": "a", "on": True}}
  for path, text in (("a.lr", "3"), ("a.families", "chair,mug"), ("a.levels", "(4,8)"), ("a.label", "7"), ("a.on", "false"),
                     ("a.new", "0.5")):
    override(config, path, text)
  assert config["a"] == {"lr": 3, "families": ("chair", "mug"), "levels": (4, 8), "label": "7", "on": False, "new": 0.5}


@pytest.mark.parametrize("text", ["chair,mug", "chair, mug", "(chair, mug)", "[chair,mug]", "('chair', 'mug')", " chair , mug,"])
def test_a_tuple_of_text_may_have_spaces_and_parentheses(text):
  assert parse_override(text, ["lamp"]) == parse_override(text, []) == ("chair", "mug")


def test_sections_on_the_way_are_made():
  config = {"train": {}}
  override(config, "train.sharding.mode", "fsdp")
  assert config == {"train": {"sharding": {"mode": "fsdp"}}}


@pytest.mark.parametrize("path, says", [
    ("rate.a", "--config.rate.a: rate is a number, not a section; set --config.rate itself"),
    ("rate.a.b", "--config.rate.a.b: rate is a number, not a section; set --config.rate itself"),
    ("unset.a", "unset is a number, not a section"),
    ("name.a.b", "--config.name.a.b: name is not a section"),
])
def test_what_is_no_section_is_named(path, says):
  with pytest.raises(UsageFault, match=says):
    override({"rate": 0.1, "unset": None, "name": "x"}, path, "1")


def test_non_finite_and_code_like_overrides_are_data():
  assert math.isnan(parse_override("nan", 1.0))
  assert parse_override("__import__('os')", 1.0) == "__import__('os')"
  assert parse_override("(" * 300, 1.0) == "(" * 300


@pytest.mark.parametrize("name, arguments, points", [
    ("linear", dict(start=1.0, end=3.0, steps=10, begin=5), {0: 1, 5: 1, 10: 2, 15: 3, 99: 3}),
    ("cosine", dict(start=2.0, end=0.0, steps=10), {0: 2, 5: 1, 10: 0, 20: 0}),
    ("cosine", dict(start=2.0, end=0.0, steps=10, warmup=4), {0: 0.4, 3: 1.6, 4: 2, 9: 1, 14: 0}),
    ("exponential", dict(start=1.0, end=0.01, steps=4), {0: 1, 2: 0.1, 4: 0.01, 9: 0.01}),
    ("staircase", dict(value=8.0, factor=0.5, every=3), {0: 8, 2: 8, 3: 4, 8: 2}),
    ("piecewise", dict(values=(4.0, 8.0, 16.0), boundaries=(10, 20)), {9: 4, 10: 8, 19: 8, 20: 16}),
])
def test_schedules_have_their_closed_forms(name, arguments, points):
  schedule = build(SCHEDULES, {"name": name, **arguments}, "s")
  for step, value in points.items():
    assert float(schedule(step)) == pytest.approx(value, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize(("name", "arguments", "step"), [
    ("linear", dict(start=3.0, end=1.0, steps=2**31 - 1, begin=2**31 - 1), 2**31 - 1),
    ("cosine", dict(start=3.0, end=1.0, steps=9, warmup=0, begin=2**31 - 1), 2**31 - 1),
    ("exponential", dict(start=3.0, end=1.0, steps=9, warmup=2**31 - 1), 2**31 - 1),
    ("staircase", dict(value=3.0, factor=0.5, every=2**31 - 1), 2**31 - 2),
    ("piecewise", dict(values=(3.0, 1.0), boundaries=(2**31 - 1,)), 2**31 - 2),
])
def test_schedules_reach_as_far_as_steps_do_and_longer_ones_are_named(name, arguments, step):
  assert float(build(SCHEDULES, {"name": name, **arguments}, "s")(step)) == pytest.approx(3.0)
  for setting, value in arguments.items():
    longer = (2**31,) if setting == "boundaries" else 2**31
    if value not in (2**31 - 1, (2**31 - 1,)):
      continue
    with pytest.raises(UsageFault, match=f"s.{setting}.*: 2147483648 is out of range; give a number at least . and at most 2147483647"):
      build(SCHEDULES, {"name": name, **arguments, setting: longer}, "s")


@pytest.mark.parametrize(("values", "boundaries", "says"), [
    ((1e-3, 1e-4), (10, 20, 30), "piecewise.values: 2 values have 3 boundaries between them; give one value more"),
    ((1.0, 0.5, 0.1), (20,), "piecewise.values: 3 values have 1 boundaries"),
    ((1.0, 0.5, 0.1), (20, 10), "piecewise.boundaries: 20, 10 do not ascend"),
    ((1.0, 0.5, 0.1), (10, 10), "piecewise.boundaries: 10, 10 do not ascend"),
])
def test_pieces_that_do_not_follow_each_other_are_named(values, boundaries, says):
  with pytest.raises(UsageFault, match=says):
    build(SCHEDULES, {"name": "piecewise", "values": values, "boundaries": boundaries}, "s")


def test_a_curriculum_gives_all_its_values_at_a_step():
  values = at({"eikonal": as_schedule(0.1), "level": build(SCHEDULES, {"name": "linear", "start": 2.0, "end": 4.0, "steps": 2})}, 1)
  assert {k: round(float(v), 6) for k, v in values.items()} == {"eikonal": 0.1, "level": 3.0}
