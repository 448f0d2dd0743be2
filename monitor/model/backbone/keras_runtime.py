"""What differs between the backends of Keras: devices, threads, compiling, memory running out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from monitor.model.backbone import BackboneError
from monitor.model.backbone.machine import processor_facts
from monitor.model.backbone.quiet import import_keras, native_noise_held_back

log = logging.getLogger(__name__)

Forward = Callable[[NDArray[Any]], NDArray[np.float32]]
"""One compiled graph: uint8 images, or float32 maps, to float32."""


class Runtime(Protocol):
    """One backend, made ready for one device.

    Attributes:
        name: for people, with versions.
        device: `CPU` or `GPU`.
        fast_bfloat16: whether the device multiplies bfloat16 in hardware.
        fixed_shapes: whether another batch length costs a compilation, so that batches are padded.
        memory_errors: exceptions that may mean that memory ran out; ask `is_out_of_memory`.
        device_errors: exceptions by which a GPU tells that it cannot go on; none on a CPU.
        traces: how often a graph was traced.
    """

    name: str
    device: str
    fast_bfloat16: bool
    fixed_shapes: bool
    memory_errors: tuple[type[Exception], ...]
    device_errors: tuple[type[Exception], ...]
    traces: int

    def compile(self, model: Any) -> Forward:
        """The model as one compiled function of numpy arrays."""

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Whether that error means that memory ran out."""


def open_runtime(device: str, threads: int, *, in_lanes: bool = False) -> Runtime:
    """Import Keras with its configured backend and set it up.

    Args:
        device: `auto`, `cpu` or `gpu`.
        threads: processor threads for one operation; 0 means all.
        in_lanes: several threads will call at once, and on a CPU each keeps to a thread of its
            own: 2 to 7 % more images a second than operations that share theirs.

    Raises:
        BackboneError: `gpu` was demanded and there is none, or the backend is not supported.
    """
    backend = import_keras().backend.backend()
    if backend == "tensorflow":
        with native_noise_held_back():  # it speaks again when it looks for a GPU
            return TensorFlowRuntime(device, threads, in_lanes)
    if backend == "jax":
        return JaxRuntime(device)
    raise BackboneError(
        f"trapwatch runs Keras on TensorFlow or JAX, not on '{backend}': unset KERAS_BACKEND."
    )


class TensorFlowRuntime:
    """TensorFlow: a tf.function with an open batch length is traced once for every length."""

    def __init__(self, device: str, threads: int, in_lanes: bool = False) -> None:
        import keras
        import tensorflow as tf

        self._tf = tf
        self.name = f"Keras {_short(keras.__version__)} on TensorFlow {_short(tf.__version__)}"
        self.traces = 0
        self.memory_errors: tuple[type[Exception], ...] = (
            tf.errors.ResourceExhaustedError,
            MemoryError,
        )
        gpus = self._choose_gpus(device)
        if in_lanes and not gpus:  # a wish: the process that fine-tunes has begun with all threads
            self._use_threads(1, logging.DEBUG)
        else:
            self._use_threads(threads)
        self.device = "GPU" if gpus else "CPU"
        lost = (  # a CUDA error, a launch that failed, cuDNN or cuBLAS without a device
            tf.errors.InternalError,
            tf.errors.UnknownError,
            tf.errors.UnavailableError,
            tf.errors.AbortedError,
            tf.errors.FailedPreconditionError,
        )
        self.device_errors: tuple[type[Exception], ...] = lost if gpus else ()
        # cuDNN looks for its best algorithm at each new shape; a CPU has no such cost.
        self.fixed_shapes = bool(gpus)
        self.fast_bfloat16 = self._gpus_have_bfloat16(gpus) if gpus else _cpu_has_bfloat16()

    def compile(self, model: Any) -> Forward:
        """See Runtime.compile."""
        tf = self._tf
        signature = [tf.TensorSpec((None, *model.input_shape[1:]), model.inputs[0].dtype)]

        def traced(images: Any) -> Any:
            self.traces += 1
            return model(images, training=False)

        function = tf.function(traced, input_signature=signature, autograph=False)

        def forward(images: NDArray[Any]) -> NDArray[np.float32]:
            features: NDArray[np.float32] = function(tf.constant(images)).numpy()
            return features

        return forward

    def is_out_of_memory(self, error: BaseException) -> bool:
        """See Runtime.is_out_of_memory."""
        return isinstance(error, self.memory_errors)

    def _choose_gpus(self, device: str) -> list[Any]:
        config = self._tf.config
        gpus = list(config.list_physical_devices("GPU"))
        if device == "gpu" and not gpus:
            raise BackboneError(
                "classifier.device is 'gpu', but TensorFlow sees none: install its CUDA libraries "
                "(pip install 'tensorflow[and-cuda]') and check nvidia-smi, or set it to 'auto'."
            )
        if device == "cpu":
            hide = partial(config.set_visible_devices, [], "GPU")
            return [] if self._before_start(hide, "device: cpu") else gpus
        for gpu in gpus:
            grow = partial(config.experimental.set_memory_growth, gpu, True)
            self._before_start(grow, "memory growth")
        return gpus

    def _use_threads(self, threads: int, level: int = logging.WARNING) -> None:
        threading = self._tf.config.threading
        if threads and threading.get_intra_op_parallelism_threads() != threads:
            change = partial(threading.set_intra_op_parallelism_threads, threads)
            self._before_start(change, f"threads: {threads}", level)

    @staticmethod
    def _before_start(
        change: Callable[[], object], what: str, level: int = logging.WARNING
    ) -> bool:
        """Make a change that TensorFlow takes only before its first operation; whether it did."""
        try:
            change()
        except RuntimeError:
            log.log(level, "%s has no effect: TensorFlow runs in this process already", what)
            return False
        return True

    def _gpus_have_bfloat16(self, gpus: list[Any]) -> bool:
        details = [self._tf.config.experimental.get_device_details(gpu) for gpu in gpus]
        return all(found.get("compute_capability", (0, 0)) >= (8, 0) for found in details)


class JaxRuntime:
    """JAX, where only that has a GPU (KERAS_BACKEND=jax). JAX chooses the device itself."""

    fixed_shapes = True
    memory_errors: tuple[type[Exception], ...] = (RuntimeError, MemoryError)

    def __init__(self, device: str) -> None:
        import jax
        import keras

        self._jax = jax
        self.traces = 0
        self.name = f"Keras {_short(keras.__version__)} on JAX {_short(jax.__version__)}"
        self.device = "CPU" if jax.default_backend() == "cpu" else "GPU"
        if device not in ("auto", self.device.lower()):
            raise BackboneError(
                f"classifier.device is '{device}', but JAX runs on {self.device}: set the "
                "environment variable JAX_PLATFORMS, or the device to 'auto'."
            )
        self.fast_bfloat16 = self.device == "GPU"
        on_gpu = self.device == "GPU"
        self.device_errors: tuple[type[Exception], ...] = (RuntimeError,) if on_gpu else ()

    def compile(self, model: Any) -> Forward:
        """See Runtime.compile."""
        trainable = [variable.value for variable in model.trainable_variables]
        fixed = [variable.value for variable in model.non_trainable_variables]

        def traced(trainable: Any, fixed: Any, images: Any) -> Any:
            self.traces += 1
            return model.stateless_call(trainable, fixed, images, training=False)[0]

        function = self._jax.jit(traced)
        return lambda images: np.asarray(function(trainable, fixed, images))

    def is_out_of_memory(self, error: BaseException) -> bool:
        """See Runtime.is_out_of_memory."""
        return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def _short(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _cpu_has_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether oneDNN multiplies bfloat16 in hardware here; without, it is slower than float32."""
    _, abilities = processor_facts(cpuinfo)
    return bool(abilities & {"avx512_bf16", "amx_bf16"})
