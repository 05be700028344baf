"""Parameters of a network under the names, and in the layouts, of PyTorch and of Keras; and back.

Images are [height, width, channels] here and in Keras, [channels, height, width] in PyTorch. So there a kernel's axes
stand in another order, and so do the rows of the dense layer that comes after the flattened image: its n = height ×
width places with c channels each are rows [n c] here and [c n] there.
"""

import math
import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import jax.numpy as jnp
import numpy as np

from jaxnn._checks import (
    Scalar,
    check_array,
    check_choice,
    check_entries,
    check_number,
    check_shape,
    in_words,
    is_concrete,
)
from jaxnn._tensors import Tensors, from_tensors
from jaxnn.layers import ModelState, Params, Shape

__all__ = ["Layout", "from_layout", "to_layout"]

Layout: TypeAlias = Literal["torch", "keras"]

_LAYERS = {
    "dense": {"W": ("inputs", "outputs"), "b": ("outputs",)},
    "conv": {"W": ("height", "width", "in", "filters"), "b": ("filters",)},
    "batch_norm": {
        "gamma": ("channels",),
        "beta": ("channels",),
        "mean": ("channels",),
        "var": ("channels",),
        "count": (),
    },
}
_TORCH_BATCH_NORM = {
    "gamma": "weight",
    "beta": "bias",
    "mean": "running_mean",
    "var": "running_var",
    "count": "num_batches_tracked",
}
_KERAS_BATCH_NORM = {"gamma": "gamma", "beta": "beta", "mean": "moving_mean", "var": "moving_variance"}
_KERNEL = {"torch": {"W": "weight", "b": "bias"}, "keras": {"W": "kernel", "b": "bias"}}
_NAMES = {
    "torch": {"dense": _KERNEL["torch"], "conv": _KERNEL["torch"], "batch_norm": _TORCH_BATCH_NORM},
    "keras": {"dense": _KERNEL["keras"], "conv": _KERNEL["keras"], "batch_norm": _KERAS_BATCH_NORM},
}
_SEPARATORS = {"torch": ".", "keras": "/"}


def to_layout(
    layout: Layout, params: Params, model_state: ModelState, input_shape: Shape, *, momentum: Scalar = 0.9
) -> Tensors:
    """The arrays of a network for PyTorch or Keras, by the names that its layers would give them there.

        dense       torch  dense1.weight [out, in]  dense1.bias        keras  dense1/kernel  dense1/bias
        conv        torch  conv1.weight [out, in, height, width]       keras  conv1/kernel
        batch_norm  torch  batch_norm1.weight .bias .running_mean .running_var .num_batches_tracked
                    keras  batch_norm1/gamma /beta /moving_mean /moving_variance
        running mean, var there = mean, var here / (1 - momentum^count)

    For networks of dense, conv and batch norm layers, with activations, dropout, pooling and one flatten among them,
    as `mlp`, `two_layer_net`, `simple_convnet` and `convnet` are. PyTorch's takes images `[batch, channels, height,
    width]`: the rows of `dense1` are put in the order in which it flattens them. Its batch norm must have this one's
    eps, 1e-6 and not 1e-5 (Keras: 1e-3). Batch norm that has seen no batch gets the other library's start, 0 and 1.

    Args:
        layout: "torch" or "keras".
        params: of a `sequential` network.
        model_state: beside them; `{}` without batch norm.
        input_shape: of one example, without the batch axis; its channels say how `dense1` is permuted.
        momentum: that of the batch norm layers, with which their moments are corrected for their start at 0.

    Raises:
        TypeError: no params or model_state of such a network, or traced ones.
        ValueError: another layout; a layer of another kind, or shapes that do not fit together or with `input_shape`.

    >>> import jax, jaxnn as nn
    >>> params, model_state, _ = nn.mlp([50], outputs=10).init(jax.random.key(0), (8, 8, 1))
    >>> tensors = nn.to_layout("torch", params, model_state, (8, 8, 1))
    >>> print({name: values.shape for name, values in tensors.items()})
    {'dense1.weight': (50, 64), 'dense1.bias': (50,), 'dense2.weight': (10, 50), 'dense2.bias': (10,)}
    """
    check_choice("layout", layout, get_args(Layout))
    check_number("momentum", momentum, at_least=0, below=1)
    tensors: Tensors = {}
    for layer in _layers(params, model_state, input_shape):
        leaves = {name: _concrete(f"{layer.name}/{name}", leaf) for name, leaf in layer.leaves.items()}
        if layer.kind == "batch_norm":
            leaves |= _moments_there(leaves, float(momentum))
        elif layout == "torch":
            leaves["W"] = _kernel_there(leaves["W"], layer.channels)
        for ours, theirs in _NAMES[layout][layer.kind].items():
            if ours in leaves:
                tensors[f"{layer.name}{_SEPARATORS[layout]}{theirs}"] = np.asarray(leaves[ours], order="C")
    return tensors


def from_layout(
    layout: Layout,
    tensors: Mapping[str, Any],
    like: tuple[Params, ModelState],
    input_shape: Shape,
    *,
    momentum: Scalar = 0.9,
) -> tuple[Params, ModelState]:
    """The params and model_state of a network from the arrays that `to_layout` makes, or PyTorch or Keras have trained.

        batch_norm  count = num_batches_tracked; mean, var here = running mean, var there × (1 - momentum^count)

    Where no count is given, as by Keras, it becomes so large that the correction is 1. Moments of 0 and 1, the start of
    both libraries, become batch norm that has seen no batch.

    Args:
        layout: "torch" or "keras".
        tensors: by name, as `safetensors.numpy.load_file` reads them, or a `state_dict()` of PyTorch.
        like: what is expected, arrays or their shapes:
            `jax.eval_shape(lambda key: model.init(key, input_shape)[:2], key)`.
        input_shape: of one example, without the batch axis.
        momentum: that of the batch norm layers.

    Raises:
        TypeError: `like` or `tensors` hold something else.
        ValueError: another layout, or other names, shapes or dtypes than the network of `like` has.

    >>> import jax, jaxnn as nn
    >>> model = nn.mlp([50], outputs=10)
    >>> params, model_state, _ = model.init(jax.random.key(0), (8, 8, 3))
    >>> tensors = nn.to_layout("torch", params, model_state, (8, 8, 3))
    >>> back, _ = nn.from_layout("torch", tensors, like=(params, model_state), input_shape=(8, 8, 3))
    >>> print(bool((back["dense1"]["W"] == params["dense1"]["W"]).all()))
    True
    """
    check_choice("layout", layout, get_args(Layout))
    check_number("momentum", momentum, at_least=0, below=1)
    if not isinstance(like, tuple) or len(like) != 2:
        raise TypeError(f"like must be (params, model_state), as model.init makes them; got {in_words(like)}")
    if not isinstance(tensors, Mapping):
        raise TypeError(f"tensors must be a dict of arrays by name; got {in_words(tensors)}")
    blank = _blank(like[0]), _blank(like[1])
    found = {name: _as_numpy(name, values) for name, values in tensors.items()}
    expected = to_layout(layout, *blank, input_shape)
    found = from_tensors(found, expected, f"the {layout} layout", there="tensors")
    params: Params = {}
    model_state: ModelState = {}
    for layer in _layers(*blank, input_shape):
        names = _NAMES[layout][layer.kind]
        prefix = f"{layer.name}{_SEPARATORS[layout]}"
        leaves = {ours: found[prefix + names[ours]] for ours in layer.leaves if ours in names}
        if layer.kind == "batch_norm":
            leaves |= _moments_here(leaves, float(momentum))
        elif layout == "torch":
            leaves["W"] = _kernel_here(leaves["W"], layer.channels)
        for ours, values in leaves.items():
            tree, wanted = (params, like[0]) if ours in like[0][layer.name] else (model_state, like[1])
            dtype = wanted[layer.name][ours].dtype
            tree.setdefault(layer.name, {})[ours] = jnp.asarray(values.astype(dtype))
    return params, model_state


class _Layer(NamedTuple):
    """A layer with parameters, as its params and state show it."""

    name: str
    kind: str
    leaves: dict[str, Any]  # params and state together, by our names
    channels: int  # of the flattened image that its rows come from; 1 where there is none


def _layers(params: Params, model_state: ModelState, input_shape: Shape) -> list[_Layer]:
    """The layers in their order, refused where they make up no network that has a form elsewhere."""
    check_entries("params", params)
    check_entries("model_state", model_state)
    check_shape("input_shape", input_shape)
    layers = []
    for name in sorted(params.keys() | model_state.keys(), key=_in_order):
        kind, number = _in_order(name)
        if kind not in _LAYERS or not number:
            raise ValueError(
                f"{name} has no form in another library; layers that have are dense1, conv1, batch_norm1 and so on, as "
                "sequential names dense, conv2d and batch_norm"
            )
        if name not in params:
            raise ValueError(f"{name} is in model_state and not in params")
        leaves = {**_entries(name, params[name]), **_entries(name, model_state.get(name, {}))}
        _check_leaves(name, kind, leaves)
        layers.append(_Layer(name, kind, leaves, channels=1))
    return _with_channels(layers, input_shape)


def _with_channels(layers: list[_Layer], input_shape: Shape) -> list[_Layer]:
    """The layers, with the channels of the image that `dense1` gets, if it gets one."""
    convolutions = [layer.leaves["W"].shape for layer in layers if layer.kind == "conv"]
    dense = [layer.leaves["W"].shape for layer in layers if layer.kind == "dense"]
    if convolutions and (len(input_shape) != 3 or input_shape[2] != convolutions[0][2]):
        raise ValueError(f"conv1 takes images of {convolutions[0][2]} channels; input_shape is {input_shape}")
    channels = convolutions[-1][3] if convolutions else input_shape[-1] if len(input_shape) == 3 else 1
    if dense and (dense[0][0] % channels if convolutions else dense[0][0] != math.prod(input_shape)):
        what = (
            f"images of {channels} channels, as the last convolution makes them" if convolutions else f"{input_shape}"
        )
        raise ValueError(f"dense1 takes {dense[0][0]} inputs, which are no flattened {what}")
    widths = {shape[-1] for shape in (*convolutions, *dense)} | {input_shape[-1] if input_shape else 1}
    for layer in layers:
        # Of batch norm behind flatten nobody could say here how it is to be permuted.
        if layer.kind == "batch_norm" and layer.leaves["gamma"].shape[0] not in widths:
            raise ValueError(f"{layer.name} has {layer.leaves['gamma'].shape[0]} channels, and no layer has so many")
    return [layer._replace(channels=channels) if layer.name == "dense1" else layer for layer in layers]


def _entries(name: str, entries: Any) -> dict[str, Any]:
    if not isinstance(entries, Mapping):
        raise TypeError(f"{name} must be a dict of arrays; got {in_words(entries)}")
    return dict(entries)


def _check_leaves(name: str, kind: str, leaves: dict[str, Any]) -> None:
    wanted = _LAYERS[kind]
    optional = {"b"} if kind == "conv" else set()
    if not wanted.keys() - optional <= leaves.keys() <= wanted.keys():
        raise ValueError(f"{name} must have {', '.join(wanted)}; got {', '.join(map(str, leaves)) or 'nothing'}")
    first = next(iter(wanted))
    for entry in wanted.keys() & leaves.keys():
        check_array(f"{name}/{entry}", leaves[entry])
    for entry, axes in wanted.items():
        shape = leaves[entry].shape if entry in leaves else None
        if shape is not None and len(shape) != len(axes):
            raise ValueError(
                f"{name}/{entry} has shape {shape}; expected [{', '.join(axes)}] "
                "(of many runs take one: jax.tree.map(lambda leaf: leaf[0], params))"
            )
        if shape and shape[-1] != leaves[first].shape[-1]:
            raise ValueError(f"{name}/{entry} has shape {shape}, and {name}/{first} {leaves[first].shape}")


def _in_order(name: str) -> tuple[str, int]:
    """Names by kind and number: conv10 comes after conv2."""
    match = re.fullmatch(r"(.*?)(\d*)", str(name), re.DOTALL)
    assert match is not None
    return match[1], int(match[2] or 0)


def _kernel_there(W: np.ndarray, channels: int) -> np.ndarray:
    if W.ndim == 4:
        return W.transpose(3, 2, 0, 1)
    inputs, outputs = W.shape
    return W.reshape(inputs // channels, channels, outputs).swapaxes(0, 1).reshape(inputs, outputs).T


def _kernel_here(W: np.ndarray, channels: int) -> np.ndarray:
    if W.ndim == 4:
        return W.transpose(2, 3, 1, 0)
    outputs, inputs = W.shape
    return W.T.reshape(channels, inputs // channels, outputs).swapaxes(0, 1).reshape(inputs, outputs)


def _moments_there(leaves: dict[str, np.ndarray], momentum: float) -> dict[str, np.ndarray]:
    """Running moments as the other libraries keep them: without a correction to come."""
    mean, var, count = leaves["mean"], leaves["var"], int(leaves["count"])
    if count == 0:
        return {"mean": np.zeros_like(mean), "var": np.ones_like(var), "count": np.asarray(count, np.int64)}
    seen = _seen(momentum, count, mean.dtype)
    return {"mean": mean / seen, "var": var / seen, "count": np.asarray(count, np.int64)}


def _moments_here(leaves: dict[str, np.ndarray], momentum: float) -> dict[str, np.ndarray]:
    mean, var = leaves["mean"], leaves["var"]
    count = int(leaves.get("count", 0))
    if count == 0 and not (np.all(mean == 0) and np.all(var == 1)):
        count = _settled(momentum, mean.dtype)
    seen = _seen(momentum, count, mean.dtype)
    return {"mean": mean * seen, "var": var * seen, "count": np.asarray(count)}


def _seen(momentum: float, count: int, dtype: np.dtype) -> np.ndarray:
    """1 - momentum^count, of the momentum as `dtype` holds it: what batch_norm divides by."""
    return np.asarray(1 - float(np.asarray(momentum, dtype)) ** count, dtype)


def _settled(momentum: float, dtype: np.dtype) -> int:
    """A count of batches after which momentum^count is a quarter of what can be told from 1."""
    bits = int(jnp.finfo(dtype).nmant) + 3
    return 1 if momentum == 0 else math.ceil(-bits * math.log(2) / math.log(momentum))


def _concrete(name: str, leaf: Any) -> np.ndarray:
    if not is_concrete(leaf):
        raise TypeError(f"{name} is traced; weights are handed over outside of jit and vmap")
    return np.asarray(leaf)


def _blank(tree: Any) -> Any:
    """The arrays of a dict of layers as zeros, where only their shapes are known too; what is no array stays."""
    if isinstance(tree, Mapping):
        return {name: _blank(part) for name, part in tree.items()}
    return np.zeros(tree.shape, tree.dtype) if hasattr(tree, "shape") and hasattr(tree, "dtype") else tree


def _as_numpy(name: str, values: Any) -> np.ndarray:
    try:
        array = np.asarray(values)
    except (TypeError, RuntimeError, ValueError) as error:  # PyTorch's, of bfloat16, or where a gradient is wanted
        said = str(error).splitlines()[0][:200]
        raise TypeError(f"{name} cannot be read as a NumPy array ({said})") from None
    if array.dtype.kind in "OUS":
        raise TypeError(f"{name} must be an array; got {in_words(values)}")
    return array
