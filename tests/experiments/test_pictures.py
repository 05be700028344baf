import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_rgb

from experiments.shared.pictures import COLOURS, curve, panels, smooth, tiles


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=30), st.integers(1, 40))
def test_smooth_is_the_mean_of_the_last_values(values, window):
    expected = [np.mean(values[max(0, n + 1 - window) : n + 1]) for n in range(len(values))]
    np.testing.assert_allclose(smooth(values, window), expected, atol=1e-9)
    np.testing.assert_allclose(smooth([values, values], window), [expected, expected], atol=1e-9)


def test_a_curve_is_the_mean_in_a_band_from_the_least_to_the_most():
    _, ((axis,),) = panels()
    runs = np.array([[1.0, 5.0], [3.0, 4.0]])
    curve(axis, [10, 20], runs, "loss", COLOURS[0])
    np.testing.assert_allclose(axis.lines[0].get_xydata(), [[10, 2.0], [20, 4.5]])
    (band,) = axis.collections
    corners = band.get_paths()[0].vertices
    assert {tuple(corner) for corner in corners} == {(10, 1), (10, 3), (20, 4), (20, 5)}


def test_one_run_has_no_band():
    _, ((axis,),) = panels()
    curve(axis, [1, 2], [0.5, 0.4], "loss", COLOURS[0])
    assert not axis.collections


def test_tiles_lie_row_by_row():
    _, ((axis,),) = panels()
    images = np.arange(3 * 2 * 2).reshape(3, 2, 2)
    shown = tiles(axis, images, columns=2).get_array().filled(-1)
    expected = [[0, 1, -1, 4, 5], [2, 3, -1, 6, 7], [-1] * 5, [8, 9, -1, -1, -1], [10, 11, -1, -1, -1]]
    np.testing.assert_array_equal(shown, expected)


def test_colours_can_be_told_apart_without_red_and_green():
    """As a deuteranope sees them (Viénot, Brettel & Mollon 1999), no two lines look alike."""
    to_lms = np.array([[17.8824, 43.5161, 4.11935], [3.45565, 27.1554, 3.86714], [0.0299566, 0.184309, 1.46709]])
    blind = np.array([[1, 0, 0], [0.494207, 0, 1.24827], [0, 0, 1]])
    linear = np.array([to_rgb(colour) for colour in COLOURS]) ** 2.2
    seen = np.clip(linear @ (np.linalg.inv(to_lms) @ blind @ to_lms).T, 0, 1) ** (1 / 2.2)
    apart = np.linalg.norm(seen[:, None] - seen[None], axis=-1) + np.eye(len(COLOURS))
    assert apart.min() > 0.15
