"""Who computes what scikit-learn's interface asks for: cuML and cuDF, or scikit-learn and pandas.

This is the one place that chooses; everything above asks the engine.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt
import psutil

from ae_core import machine
from ae_core.devices.device import Array
from ae_core.errors import InputError
from ae_core.machine import DeviceKind

EngineName = Literal["rapids", "scikit-learn"]
Block = tuple[npt.NDArray[Any], npt.NDArray[Any], Array]
"""Rows of a file of features: image numbers and labels on the host, features on the device."""


class Engine(Protocol):
    """One implementation of scikit-learn's interface, and the arrays that it works on."""

    name: EngineName
    kind: DeviceKind
    device: str
    """What does the arithmetic: the processor's or the card's model."""
    xp: Any
    """The array module: numpy or cupy."""

    def scaler(self) -> Any:
        """A `StandardScaler`."""

    def pca(self, components: int) -> Any:
        """A `PCA`."""

    def svc(self, C: float, gamma: float) -> Any:
        """The library's own RBF `SVC`, for any number of classes."""

    def binary_svc(self, C: float) -> Any:
        """An `SVC` for two classes and a kernel matrix that is given."""

    def parquet(self, path: Path) -> Iterator[Block]:
        """A Parquet file of features, row group by row group."""

    def csv(self, path: Path, rows: int) -> Iterator[Block]:
        """A CSV file of features, about so many rows at a time."""

    def to_host(self, array: Array) -> npt.NDArray[Any]:
        """A NumPy array of the same contents."""

    def free_bytes(self) -> int:
        """Memory that may still be taken where arrays live."""

    def synchronize(self) -> None:
        """Return when all queued work is done."""


def open_engine(choice: str = "auto") -> Engine:
    """The engine to compute with.

    Args:
        choice: `rapids`, `scikit-learn`, or `auto` for RAPIDS where a GPU and cuML are.

    Raises:
        InputError: it is not there; says what to install.
    """
    if choice not in ("auto", *get_args(EngineName)):
        raise InputError(
            f"engine: expected auto, {' or '.join(get_args(EngineName))}, found {choice!r}"
        )
    missing = "" if choice == "scikit-learn" else machine.lacking_for_rapids()
    if choice == "rapids" and missing:
        raise InputError(f"engine: rapids needs {missing}")
    return ScikitLearn() if choice == "scikit-learn" or missing else Rapids()


class ScikitLearn:
    """The CPU's: scikit-learn, pandas and Arrow."""

    name: EngineName = "scikit-learn"
    kind: DeviceKind = "cpu"
    xp: Any = np

    def __init__(self) -> None:
        self.device = machine.cpu_model()

    def scaler(self) -> Any:
        """`sklearn.preprocessing.StandardScaler`."""
        from sklearn.preprocessing import StandardScaler  # noqa: PLC0415

        return StandardScaler(copy=True)

    def pca(self, components: int) -> Any:
        """`sklearn.decomposition.PCA`, exact."""
        from sklearn.decomposition import PCA  # noqa: PLC0415

        return PCA(components, svd_solver="full")

    def svc(self, C: float, gamma: float) -> Any:
        """`sklearn.svm.SVC` with a cache of 1 GB."""
        from sklearn.svm import SVC  # noqa: PLC0415

        return SVC(C=C, gamma=gamma, cache_size=1000)

    def binary_svc(self, C: float) -> Any:
        """`sklearn.svm.SVC`."""
        from sklearn.svm import SVC  # noqa: PLC0415

        return SVC(C=C, kernel="precomputed", cache_size=1000)

    def parquet(self, path: Path) -> Iterator[Block]:
        """Through Arrow, which pandas uses as well, but without an object for each list."""
        import pyarrow.parquet as pq  # noqa: PLC0415

        with (
            path.open("rb") as opened,  # Arrow takes no name that is not UTF-8
            pq.ParquetFile(opened, page_checksum_verification=True) as file,
        ):
            for group in range(file.num_row_groups):
                table = file.read_row_group(group).combine_chunks()
                image, label = (table[name].to_numpy() for name in ("image", "label"))
                features = table["features"].combine_chunks().flatten().to_numpy()
                yield image, label, features.reshape(len(image), -1)

    def csv(self, path: Path, rows: int) -> Iterator[Block]:
        """`pandas.read_csv`, in chunks."""
        import pandas as pd  # noqa: PLC0415

        with pd.read_csv(path, skiprows=1, dtype=np.float32, chunksize=rows) as chunks:
            for frame in chunks:
                values = frame.to_numpy()
                yield values[:, 0], values[:, 1], values[:, 2:]

    def to_host(self, array: Array) -> npt.NDArray[Any]:
        """The array itself."""
        return np.asarray(array)

    def free_bytes(self) -> int:
        """What the system says is available."""
        return int(psutil.virtual_memory().available)

    def synchronize(self) -> None:
        """Nothing to wait for."""


class Rapids:
    """The GPU's: cuML, cuDF and CuPy."""

    name: EngineName = "rapids"
    kind: DeviceKind = "gpu"

    def __init__(self) -> None:
        import cupy  # noqa: PLC0415

        gpu = machine.gpu()
        self.xp, self.device = cupy, gpu.model if gpu else "GPU"

    def scaler(self) -> Any:
        """`cuml.preprocessing.StandardScaler`."""
        from cuml.preprocessing import StandardScaler  # noqa: PLC0415

        return StandardScaler(copy=True)

    def pca(self, components: int) -> Any:
        """`cuml.decomposition.PCA`."""
        from cuml.decomposition import PCA  # noqa: PLC0415

        return PCA(n_components=components)

    def svc(self, C: float, gamma: float) -> Any:
        """`cuml.svm.SVC`. With `scale` its gamma would differ from pair to pair of classes."""
        from cuml.svm import SVC  # noqa: PLC0415

        return SVC(C=C, gamma=gamma)

    def binary_svc(self, C: float) -> Any:
        """`cuml.svm.SVC`."""
        from cuml.svm import SVC  # noqa: PLC0415

        return SVC(C=C, kernel="precomputed")

    def parquet(self, path: Path) -> Iterator[Block]:
        """`cudf.read_parquet`, row group by row group."""
        import cudf  # noqa: PLC0415
        import pyarrow.parquet as pq  # noqa: PLC0415

        with pq.ParquetFile(path) as file:
            groups = file.num_row_groups
        for group in range(groups):  # no dataset_kwargs: a folder named a=b would add a column
            frame = cudf.read_parquet(path, row_groups=[[group]], dataset_kwargs={})
            image, label = (frame[name].to_numpy() for name in ("image", "label"))
            yield image, label, frame["features"].list.leaves.to_cupy().reshape(len(frame), -1)

    def csv(self, path: Path, rows: int) -> Iterator[Block]:
        """`cudf.read_csv`, the whole file at once: it can't seek to a row."""
        import cudf  # noqa: PLC0415

        # As float64 first: it adds up a number's digits in that type, and would round each sum.
        values = cudf.read_csv(path, skiprows=1, dtype="float64").to_cupy().astype("float32")
        host = self.to_host(values[:, :2])
        yield host[:, 0], host[:, 1], values[:, 2:]

    def to_host(self, array: Array) -> npt.NDArray[Any]:
        """A copy from the card."""
        return np.asarray(self.xp.asnumpy(self.xp.asarray(array)))

    def free_bytes(self) -> int:
        """The card's free memory, with what CuPy holds and does not use."""
        free, _ = self.xp.cuda.runtime.memGetInfo()
        return int(free) + int(self.xp.get_default_memory_pool().free_bytes())

    def synchronize(self) -> None:
        """Wait for the card."""
        self.xp.cuda.Device().synchronize()
