"""Faults are one line and carry the documented exit code."""

import errno

import pytest

from fields3d.core import errors


@pytest.mark.parametrize("name, code", [("UsageFault", 2), ("BadData", 65), ("MissingInput", 66), ("Unavailable", 69),
                                        ("CannotWrite", 73), ("IOFault", 74), ("TryAgain", 75), ("Diverged", 76)])
def test_each_fault_has_its_documented_code(name, code):
  assert getattr(errors, name)("a", "b").exit_code == code


def test_a_fault_is_one_line_whatever_it_names():
  assert "\n" not in str(errors.BadData("a\nb.obj", "x\n\ny", "do\nthis"))


@pytest.mark.parametrize("error, code", [
    (FileNotFoundError(errno.ENOENT, "No such file", "x"), 66), (PermissionError(errno.EACCES, "denied", "x"), 73),
    (OSError(errno.ENOSPC, "full", "x"), 74), (OSError(errno.EIO, "io", "x"), 74),
    (OSError(errno.EROFS, "read-only", "x"), 73),
    (FileExistsError(errno.EEXIST, "exists", "x"), 73), (OSError(errno.ENAMETOOLONG, "long", "x"), 73)])
def test_operating_system_errors_have_their_codes(error, code):
  assert errors.from_os_error(error).exit_code == code


def test_what_cannot_fit_is_refused_with_its_bytes():
  with pytest.raises(errors.UsageFault, match=r"1048576.0 GiB.*lower it"):
    errors.require_memory(2**50, "--resolution", "lower it")
