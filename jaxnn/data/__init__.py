"""Data: from a name or a file to verified arrays (`import jaxnn as nn; nn.data.load("digits")`)."""

from jaxnn.data.dataset import DataError as DataError
from jaxnn.data.dataset import Dataset as Dataset
from jaxnn.data.dataset import Splits as Splits
from jaxnn.data.dataset import split as split
from jaxnn.data.formats import read_cifar10 as read_cifar10
from jaxnn.data.formats import read_idx as read_idx
from jaxnn.data.scaling import MinMax as MinMax
from jaxnn.data.scaling import min_max as min_max
from jaxnn.data.sources import Source as Source
from jaxnn.data.sources import find as find
from jaxnn.data.sources import load as load
from jaxnn.data.sources import sources as sources
from jaxnn.data.sources import where as where
