"""Results as `perform` writes them, without running anything."""

import json
from pathlib import Path

from PIL import Image

SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="300pt" height="200pt" viewBox="0 0 300 200">'
    "<style>*{stroke-linecap: butt}</style><path d='M 0 0 L 300 200' style='stroke: #0072b2'/></svg>"
)
HOSTILE = '<script>window.hacked = true</script><img src=x onerror="window.hacked = true">"\'&amp;'


def claim(row="D4", words="w after example 1", holds=True, **changes):
    described = {"row": row, "words": words, "measured": "(1, 0, 0)", "reference": "(1, 0, 0) ± 1e-05"}
    return {**described, "source": "the notes", "holds": holds, "values": [1.0, 0.0], **changes}


def write_result(results: Path, name: str, *, claims=(), animated=False, vector=False, **changes) -> Path:
    """A folder with one experiment's result; returns the path of its `result.json`."""
    folder = results / name
    folder.mkdir(parents=True)
    figure = {"png": "curve.png", "alt": f"A curve of {name} that rises."}
    Image.new("RGB", (1300, 650), "white").save(folder / "curve.png")
    if vector:
        figure["svg"] = "curve.svg"
        (folder / "curve.svg").write_text(SVG)
    if animated:
        figure["gif"] = "curve.gif"
        frames = [Image.new("RGB", (900, 450), colour) for colour in ("white", "blue")]
        frames[0].save(folder / "curve.gif", save_all=True, append_images=frames[1:], duration=125, loop=0)
    result = {
        "name": name,
        "question": f"What does {name} ask?",
        "description": f"What does {name} ask?\n\nIt says *so* of `w`.\nGoes on.\n\n    w <- w + x\n\n"
        f"    python -m experiments.{name}",
        "rows": sorted({one["row"] for one in claims}),
        "formula": r"\hat{x} = \frac{x - \mu}{\sigma}, \qquad y = \gamma \hat{x}",
        "quick": False,
        "data": "MNIST",
        "config": {"learning_rate": 0.3, "hidden_sizes": [100, 100]},
        "claims": list(claims),
        "figures": [figure],
        "seconds": 4.0,
        "compile_seconds": 1.0,
        "book_seconds": None,
        "command": f"python -m experiments run {name}",
        "date": "2026-05-04T10:00:00+00:00",
        "versions": {"python": "3.11.7", "jax": "0.10.2"},
        "devices": ["cpu: cpu", "cpu: cpu"],
        "processor": "A processor, 2 cores",
        **changes,
    }
    path = folder / "result.json"
    path.write_text(json.dumps(result), encoding="utf-8")
    return path


def write_several(results: Path) -> None:
    """Of each kind one: all holds, one fails far down, a figure that moves, a text that is hostile."""
    many = [claim("C7", f"accuracy at scale {number}", number != 14) for number in range(16)]
    write_result(results, "perceptron", claims=[claim()], vector=True)
    write_result(results, "batch_norm", claims=[*many, claim("X1")], vector=True, book_seconds=19.5)
    write_result(results, "optimizer_paths", claims=[claim("C1"), claim("X1")], animated=True, quick=True)
    hostile = dict.fromkeys(("words", "measured", "reference", "source"), HOSTILE)
    write_result(
        results,
        "dropout",
        claims=[claim("C9", **hostile)],
        question=f"{HOSTILE}?",
        description=f"{HOSTILE}?\n\n*{HOSTILE}* `{HOSTILE}`\n\n    {HOSTILE}",
        formula=rf"\text{{{HOSTILE}}} \href{{javascript:alert(1)}}{{x}} \style{{background: url(http://a.test)}}{{x}}",
        command=HOSTILE,
        processor=HOSTILE,
        data=HOSTILE,
        config={HOSTILE: HOSTILE},
        versions={HOSTILE: HOSTILE},
        devices=[HOSTILE],
    )
