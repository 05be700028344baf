"""`jaxnn check-gradients`: the audit of a model from the command line, and its cost."""

import re

import jax
import pytest

import jaxnn as nn
from jaxnn import check_command, cli, presets

SMALL = ["check-gradients", "--hidden-sizes", "4", "--batch-size", "6"]


def test_check_gradients_prints_the_audit_and_its_cost(capsys):
    assert cli.main([*SMALL, "--dropout", "0", "--batch-norm", "False", "--every-entry"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        "data    digits: 6 training examples",
        "model   mlp: 310 parameters, initial weights of seed 0",
    ]
    table = {line.split()[0]: line.split() for line in lines[4:8]}
    assert {name: words[1] for name, words in table.items()} == {
        "dense1/W": "256",
        "dense1/b": "4",
        "dense2/W": "40",
        "dense2/b": "10",
    }
    assert lines[8].startswith("the gradient is right: 310 of 310 entries checked")
    cost = re.fullmatch(
        r"cost    [\d.]+ m?s for a numerical gradient of all 310 entries; jax.grad takes [\d.]+ ms, ([\d,]+) times less",
        lines[9],
    )
    assert int(cost[1].replace(",", "")) > 1


def test_check_gradients_fails_with_status_1_and_names_the_leaf(capsys, monkeypatch):
    @jax.custom_vjp
    def doubled(x):
        return nn.tanh(x)

    doubled.defvjp(lambda x: (doubled(x), x), lambda x, g: (2 * g * (1 - nn.tanh(x) ** 2),))
    monkeypatch.setitem(presets.ACTIVATIONS, "tanh", doubled)
    assert cli.main([*SMALL, "--model", "two-layer-net", "--activation", "tanh", "--sample", "30"]) == 1
    said = capsys.readouterr().out
    assert "the gradient of dense1/W and dense1/b is WRONG: 74 of 310 entries checked" in said


@pytest.mark.slow
def test_check_gradients_of_a_large_network_reckons_its_cost(capsys, monkeypatch):
    monkeypatch.setattr(check_command, "_TIMED", 100)
    monkeypatch.setattr(check_command, "_SOME", 20)
    assert cli.main([*SMALL, "--sample", "10"]) == 0
    assert "of all 318 entries, reckoned from 20; jax.grad takes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--batch-size", "0"], "--batch-size must be at least 1; got 0"),
        (["--batch-size", "2000"], "--batch-size is 2000, but there are only 1258 training examples"),
        (["--sample", "0"], "--sample must be at least 1; got 0"),
        (["--model", "mpl"], "unknown model 'mpl': did you mean mlp?"),
        (["--filters", "3"], "--filters is no setting of mlp; see jaxnn models"),
        (["--epochs", "3"], "--epochs"),
    ],
)
def test_bad_input_gets_one_line_and_exit_status_2(arguments, sentence, capsys):
    assert cli.main(["check-gradients", *arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith("jaxnn: ")
    assert sentence in said
    assert said.count("\n") == 1
