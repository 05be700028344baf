"""The house: what may import what, and how light the front door is."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "jaxnn"
FLOORS = [
    {"_checks", "_dtypes", "older_jax", "_transitions"},
    {
        "_products",
        "convolution",
        "activations",
        "initializers",
        "losses",
        "metrics",
        "optimizers",
        "decoupled_optimizers",
        "_nearby",
        "gradients",
        "_differences",
        "_gradient_subject",
        "gradient_report",
        "gradient_check",
    },
    {
        "layers",
        "image_layers",
        "sampling",
        "sharding",
        "models",
        "evaluation",
        "precision",
        "_run_checks",
        "training",
        "_columns",
        "search_space",
        "sweep_program",
    },
    {
        "data",
        "_metric_names",
        "_tensors",
        "checkpoint",
        "checkpoint_folder",
        "weights",
        "interop",
        "peer_source",
        "versions",
        "_operations",
        "divergence",
        "plotting",
        "free_memory",
        "interrupts",
        "sweep_result",
        "sweep",
        "search_stages",
        "random_search",
        "_peers",
        "hosts",
        "programs",
        "stream_programs",
        "host_loop",
        "runner",
        "progress",
        "terminal",
        "compilation_cache",
        "completion_command",
        "doctor_command",
        "objective",
        "data_options",
        "presets",
        "config",
        "run_folder",
        "run_report",
        "trained",
        "train_options",
        "train_command",
        "search_options",
        "search_command",
        "trained_commands",
        "data_command",
        "check_command",
        "diff_command",
        "export_command",
        "cli",
    },
]
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
FILES = [path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py"]


def room_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "jaxnn":
            parts = node.module.split(".")
            yield from [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            assert not any(alias.name.startswith("jaxnn") for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_import_points_up_a_floor(path):
    for room in imported_rooms(path):
        assert FLOOR_OF[room] <= FLOOR_OF[room_of(path)], f"{path.name} imports {room}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_below_the_third_floor_nothing_touches_the_world(path):
    if FLOOR_OF[room_of(path)] == 3:
        pytest.skip("the third floor is the world")
    calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    names = {node.id for node in calls if isinstance(node, ast.Name)}
    assert not names & {"print", "open", "input"}
    tree = ast.parse(path.read_text())
    modules = {
        alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    assert not modules & {"os", "sys", "time", "random", "pathlib", "logging"}


def test_import_is_light():
    """What one function needs is imported by that function."""
    heavy = [
        "matplotlib",
        "sklearn",
        "scipy.stats",
        "platformdirs",
        "requests",
        "rich",
        "tyro",
        "PIL",
        "safetensors",
        "chex",
        "torch",
        "grain",
    ]
    program = f"import sys, jaxnn; print([name for name in {heavy} if name in sys.modules])"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"


def test_public_functions_have_an_example():
    import jaxnn as nn

    public = [getattr(room, name) for room in (nn, nn.data) for name in dir(room) if name[0].islower()]
    public = [function for function in public if callable(function)]
    assert len(public) > 60
    for function in public:
        assert ">>> " in (function.__doc__ or ""), f"{function.__name__} has no example in its docstring"
