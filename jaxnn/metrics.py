"""What is measured but not differentiated. Labels come as integers or one-hot rows."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Num

from jaxnn.losses import as_labels, class_index

__all__ = ["accuracy", "confusion_matrix"]


def accuracy(outputs: Float[Array, "*batch classes"], targets: Num[Array, "..."]) -> Float[Array, ""]:
    """The fraction of examples whose largest output is the right class, from 0 to 1.

    `outputs` are logits or probabilities `[batch, classes]`; `targets` integer labels `[batch]` or one-hot
    rows `[batch, classes]`. Of equal outputs the first counts as largest; a label outside the classes is
    never right. Outputs that are NaN count as class 0, as argmax takes them: it is the loss that tells of divergence.

    Raises:
        ValueError: fewer than two classes, or shapes that do not match.
        TypeError: outputs that are not floating point, or labels that are not integers.

    >>> import jax.numpy as jnp, jaxnn as nn
    >>> logits = jnp.array([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0]])
    >>> print(f"{nn.accuracy(logits, jnp.array([0, 1, 1])):.3f}")
    0.667
    """
    labels = as_labels(outputs, targets)
    return jnp.mean(jnp.argmax(outputs, axis=-1).astype(jnp.int32) == labels, dtype=jnp.float32)


def confusion_matrix(
    outputs: Float[Array, "*batch classes"], targets: Num[Array, "..."]
) -> Int[Array, "classes classes"]:
    """How often an example of class i (row) was taken for class j (column), as scikit-learn counts.

    Shapes, targets and errors as in `accuracy`; an example whose label is outside the classes is not counted.

    >>> import jax.numpy as jnp, jaxnn as nn
    >>> logits = jnp.array([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0]])
    >>> print(nn.confusion_matrix(logits, jnp.array([0, 1, 1])))
    [[1 0]
     [1 1]]
    """
    is_true = as_labels(outputs, targets)[..., None] == class_index(outputs)
    classes = outputs.shape[-1]
    is_predicted = as_labels(outputs, outputs)[..., None] == class_index(outputs)
    true, predicted = (rows.reshape(-1, classes).astype(jnp.int32) for rows in (is_true, is_predicted))
    return true.T @ predicted
