"""Bad input for the layouts of other libraries: calls, each with a part of the sentence that refuses it."""

import numpy as np

import jaxnn as nn
from tests.boundary_formulas import KEY, X, not_a_number
from tests.boundary_layers import DENSE, RUNNING, SCALES

NETWORK = {"dense1": DENSE}
NORMED = {"dense1": DENSE, "batch_norm1": {"gamma": X[0, :2], "beta": X[0, :2]}}
STATE = {"batch_norm1": {"mean": X[0, :2], "var": X[0, :2], "count": np.int32(1)}}
CONVOLUTION = {"conv1": {"W": np.ones((3, 3, 3, 4), np.float32), "b": np.ones(4, np.float32)}}
TENSORS = {"dense1.weight": np.ones((2, 3), np.float32), "dense1.bias": np.ones(2, np.float32)}


def to(params=NETWORK, model_state=None, input_shape=(3,), layout="torch", **options):
    return nn.to_layout(layout, params, {} if model_state is None else model_state, input_shape, **options)


def back(tensors=TENSORS, like=(NETWORK, {}), input_shape=(3,), layout="torch", **options):
    return nn.from_layout(layout, tensors, like, input_shape, **options)


def no_network(call):
    return [
        (lambda: call({"dense": DENSE}), "dense has no form in another library; layers that have are dense1"),
        (lambda: call({"W": X}), "W has no form in another library; layers that have are dense1"),
        (lambda: call({"sequential1": NETWORK}), "sequential1 has no form in another library; layers that have are dense1"),
        (lambda: call({1: DENSE}), "1 has no form in another library; layers that have are dense1"),
        (lambda: call({"dense1": X}), "dense1 must be a dict of arrays; got an array of float32 and shape (4, 3)"),
        (lambda: call({"dense1": {"W": X}}), "dense1 must have W, b; got W"),
        (lambda: call({"dense1": {"W": X, "b": 1.0}}), "dense1/b must be an array; got float"),
        (lambda: call({"dense1": {"W": X[None], "b": X[0]}}), "dense1/W has shape (1, 4, 3); expected [inputs, outputs]"),
        (lambda: call({"batch_norm1": SCALES}), "batch_norm1 must have gamma, beta, mean, var, count; got gamma, beta"),
        (lambda: call(NORMED, {"batch_norm1": RUNNING}), "batch_norm1/mean has shape (3,), and batch_norm1/gamma (2,)"),
        (lambda: call({}, STATE), "batch_norm1 is in model_state and not in params"),
        (lambda: call(NETWORK, {"dropout1": {}}), "dropout1 has no form in another library"),
        (lambda: call(CONVOLUTION), "conv1 takes images of 3 channels; input_shape is (3,)"),
        (lambda: call(CONVOLUTION, {}, (8, 8, 1)), "conv1 takes images of 3 channels; input_shape is (8, 8, 1)"),
        (lambda: call(CONVOLUTION | NETWORK, {}, (8, 8, 3)), "dense1 takes 3 inputs, which are no flattened images of 4 channels"),
        (lambda: call(NETWORK, {}, (8, 8, 3)), "dense1 takes 3 inputs, which are no flattened (8, 8, 3)"),
        (lambda: call(NETWORK | {"batch_norm1": {"gamma": np.ones(9), "beta": np.ones(9)}}, {"batch_norm1": {"mean": np.ones(9), "var": np.ones(9), "count": np.int32(1)}}), "batch_norm1 has 9 channels, and no layer has so many"),
        (lambda: call(NETWORK, {}, 3), "input_shape must be a tuple of whole numbers; got 3"),
        (lambda: call(NETWORK, {}, (0,)), "every size in input_shape must be at least 1; got 0"),
    ]  # fmt: skip


INTEROP = {
    "to_layout": [
        (lambda: to(layout="pytorch"), "unknown layout 'pytorch': did you mean torch?"),
        (lambda: to(layout=1), "unknown layout 1: there are torch, keras"),
        (lambda: to(3), "params must be a dict; got 3"),
        (lambda: to(model_state=3), "model_state must be a dict; got 3"),
        *no_network(to),
        *not_a_number(lambda momentum: to(momentum=momentum), "momentum"),
        (lambda: to(momentum=1), "momentum must be finite and at least 0 and below 1; got 1"),
    ],
    "from_layout": [
        (lambda: back(layout="pytorch"), "unknown layout 'pytorch': did you mean torch?"),
        (lambda: back(3), "tensors must be a dict of arrays by name; got 3"),
        (lambda: back(like=NETWORK), "like must be (params, model_state), as model.init makes them; got a dict of dense1"),
        (lambda: back(like=(NETWORK,)), "like must be (params, model_state), as model.init makes them; got ("),
        (lambda: back(like=(3, {})), "params must be a dict; got 3"),
        *no_network(lambda params, model_state=None, input_shape=(3,): back(like=(params, model_state or {}), input_shape=input_shape)),
        (lambda: back(TENSORS | {"dense1.bias": "zero"}), "dense1.bias must be an array; got 'zero'"),
        (lambda: back(TENSORS | {"dense1.bias": KEY}), "dense1.bias cannot be read as a NumPy array"),
        (lambda: back(TENSORS | {"dense2.bias": X}), "the torch layout: dense2.bias is only in the tensors"),
        (lambda: back({"dense1.weight": X[:2]}), "the torch layout: dense1.bias is only in this model"),
        (lambda: back(TENSORS | {"dense1.bias": X[0]}), "dense1.bias is (3,) in the tensors, (2,) in this model"),
        (lambda: back(layout="keras"), "the keras layout: dense1/bias is only in this model; dense1/kernel is only in this model"),
        *not_a_number(lambda momentum: back(momentum=momentum), "momentum"),
    ],
}  # fmt: skip
