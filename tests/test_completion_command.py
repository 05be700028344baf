"""`jaxnn completion`: each shell, if it is here, completes commands, options, names and files."""

import contextlib
import io
import shutil
import subprocess

import pytest

from jaxnn import cli

BASH = """
source jaxnn.bash
COMP_WORDS=({words}); COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
_jaxnn
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
FISH = "source jaxnn.fish; complete -C '{line}' | string replace -r '\t.*' ''; true"

CASES = [
    ("jaxnn tra", {"train"}),
    ("jaxnn train --mod", {"--model"}),
    ("jaxnn train --model ", {"mlp", "two-layer-net", "simple-convnet", "convnet"}),
    ("jaxnn train --optimizer ada", {"adagrad", "adam", "adamw"}),
    ("jaxnn train --compute-dtype b", {"bfloat16"}),
    ("jaxnn train --dataset cif", {"cifar10", "cifar100"}),
    ("jaxnn train --dataset some_f", {"some_folder"}),
    ("jaxnn train --resume some_f", {"some_folder"}),
    ("jaxnn train --scaling m", {"min_max"}),
    ("jaxnn train --task c", {"classification"}),
    ("jaxnn evaluate --split v", {"validation"}),
]


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scripts")
    (folder / "some_folder").mkdir()
    for shell in ("bash", "fish", "zsh"):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            assert cli.main(["completion", shell]) == 0
        (folder / f"jaxnn.{shell}").write_text(printed.getvalue())
    return folder


def run(shell, script, folder):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    return subprocess.run([shell, "-c", script], cwd=folder, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(("line", "expected"), CASES)
def test_bash(line, expected, scripts):
    if "--dataset some_f" in line:
        expected = set()  # left to bash itself
    words = " ".join(f"'{word}'" for word in line.split(" "))
    assert set(run("bash", BASH.format(words=words), scripts).split()) == expected


@pytest.mark.parametrize(("line", "expected"), CASES)
def test_fish(line, expected, scripts):
    assert {word.rstrip("/") for word in run("fish", FISH.format(line=line), scripts).split()} >= expected


def test_files_where_a_run_is_named(scripts):
    """In bash by itself, where what it was told has nothing to say: no match at all, not an empty one."""
    script = BASH.format(words="jaxnn evaluate some_f") + '\necho "${#COMPREPLY[@]}"; complete -p jaxnn'
    said = run("bash", script, scripts).split("\n")
    assert said[-3:-1] == ["0", "complete -o default -o filenames -F _jaxnn jaxnn"]


def test_zsh_reads_it(scripts):
    assert run("zsh", "zsh -n jaxnn.zsh && echo well", scripts) == "well\n"
