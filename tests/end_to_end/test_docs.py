"""docs/gradients.md: its code runs, and prints what the page says it prints."""

import re
from pathlib import Path

import jax

PAGE = (Path(__file__).parents[2] / "docs" / "gradients.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)


def test_the_page_on_gradients(capsys):
    namespace = {}
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for language, block in BLOCKS:
            if language == "python":
                exec(compile(block, "gradients.md", "exec"), namespace)
    printed, loss = capsys.readouterr().out.split("loss after 20 steps: ")
    (shown,) = (block for language, block in BLOCKS if language == "text")
    # Errors are rounding, and which is the largest differs from machine to machine; the rest does not.
    ends = lambda table: [(*line.split()[:2], line.split()[-1]) for line in table.strip().splitlines()]
    assert ends(printed) == ends(shown)
    assert namespace["report"].ok
    assert float(loss) < 0.5 * namespace["report"].value
