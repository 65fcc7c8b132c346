"""Without the harness itself, a sentence says what to install."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(("library", "extra"), [("lm_eval", "lm-eval"), ("mteb", "mteb")])
def test_a_harness_that_is_missing_is_named_with_its_extra(library, extra):
    sentence = f"{library} is not installed; install the extra: pip install 'bothways[{extra}]'"
    program = f"""
import sys
sys.modules[{library!r}] = None
from bothways.errors import UserError
try:
    import bothways.harnesses.{library}
except UserError as error:
    assert str(error) == {sentence!r}, error
else:
    raise AssertionError("it was imported")
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_so_does_the_command_line():
    program = "import runpy, sys; sys.modules['lm_eval'] = None; "
    program += "runpy.run_module('bothways.harnesses.lm_eval', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert done.stderr == "Error: lm_eval is not installed; install the extra: pip install 'bothways[lm-eval]'\n"
