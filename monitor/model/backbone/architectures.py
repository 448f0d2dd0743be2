"""The networks of the VGG family that trapwatch runs, and how their published weights are known.

Simonyan & Zisserman 2014, "Very Deep Convolutional Networks for Large-Scale Image Recognition":
configurations D (VGG16) and E (VGG19). Both are blocks of 3×3 convolutions, each block ended by a
2×2 maximum, and differ only in how many convolutions the last three blocks have.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from monitor.model.backbone import BackboneError

_URL = "https://storage.googleapis.com/tensorflow/keras-applications"


@dataclass(frozen=True, slots=True, eq=False)
class Architecture:
    """One network, without its top.

    Attributes:
        name: as `classifier.backbone` has it.
        title: for people.
        blocks: (convolutions, filters) of each block.
        keras_file: the file that keras.applications publishes.
        tensor_sha256: of each published tensor's float32 little-endian bytes, in Keras' layout
            (H×W×in×out); None where only the file's own sum is known.
        file_md5: of `keras_file`, as Keras' source has it; asked where there is no table of
            tensors.
    """

    name: str
    title: str
    blocks: tuple[tuple[int, int], ...]
    keras_file: str
    tensor_sha256: Mapping[str, str] | None = None
    file_md5: str | None = None

    @property
    def url(self) -> str:
        """Where Keras downloads `keras_file` from."""
        return f"{_URL}/{self.name}/{self.keras_file}"

    @property
    def cache_file(self) -> str:
        """Name of our own copy: arrays where they can be verified one by one, else Keras' file."""
        return (
            self.keras_file if self.tensor_sha256 is None else f"{self.name}-imagenet.safetensors"
        )

    @property
    def convolutions(self) -> list[tuple[str, int, int]]:
        """(layer, channels in, channels out), from the first to the last."""
        found, channels = [], 3
        for block, (count, filters) in enumerate(self.blocks, start=1):
            for number in range(1, count + 1):
                found.append((f"block{block}_conv{number}", channels, filters))
                channels = filters
        return found

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of all convolutions, as in keras.applications."""
        return tuple(layer for layer, _, _ in self.convolutions)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """{"block1_conv1/kernel": (3, 3, 3, 64), "block1_conv1/bias": (64,), …}, in order."""
        shapes: dict[str, tuple[int, ...]] = {}
        for layer, inputs, filters in self.convolutions:
            shapes[f"{layer}/kernel"] = (3, 3, inputs, filters)
            shapes[f"{layer}/bias"] = (filters,)
        return shapes

    @property
    def fingerprint(self) -> str | None:
        """That of the published weights; None where their tensors' sums are not known."""
        return None if self.tensor_sha256 is None else fingerprint_of(self.tensor_sha256)


def block_of(layer: str) -> int:
    """The block of a layer or tensor: `block4_conv1/bias` -> 4."""
    return int(layer.removeprefix("block").partition("_")[0])


def fingerprint_of(sums: Mapping[str, str]) -> str:
    """One SHA-256 (hex) of a whole set of sums, whatever their order."""
    in_order = sorted(sums, key=lambda name: (name.partition("/")[0], name.endswith("/bias")))
    return hashlib.sha256(
        "".join(f"{name} {sums[name]}\n" for name in in_order).encode()
    ).hexdigest()


_VGG16_SHA256: dict[str, str] = {
    "block1_conv1/kernel": "564034bfdba3ca76c2787bb27101f4fff7fa318d2fbce72b98ee85a91ac7233c",
    "block1_conv1/bias": "1ef208fe2fce06d33da14ae4a9710cc88c83b2e6168abd8cc90104dc77e87495",
    "block1_conv2/kernel": "88349446ede864025845492069f0cdd18f8d115a31b334d562d328183235e003",
    "block1_conv2/bias": "4b72fa1a0ca6aaf269f891d0891074cc4e44a86db77f2684f5711a8c32f292d9",
    "block2_conv1/kernel": "4eedcea5414f4914ff6aacda706e323c946e063fad8d9a5b4efe1379b965273a",
    "block2_conv1/bias": "9319bfabce800a0e8e5096b050ab25cde25eb505c31d4993a6fa6e1c425201a1",
    "block2_conv2/kernel": "d04e9376fa0603eb67d875ef93b5f04ba0d881e34394a0f7bd629b8acfb7366b",
    "block2_conv2/bias": "753369cbe1f3df5c2bf733424ce7a58fa7282d3e00f0d401381240df9578d982",
    "block3_conv1/kernel": "61854131434cc09f429e5e5fa7b25e91089fe09b7b55a3989c84937386f6ad80",
    "block3_conv1/bias": "bfb7228878910873041c5fe390176931f082dd0b3d7215c7015dc7830388c369",
    "block3_conv2/kernel": "0a3ba315ec7a81d9beb336dc768855e3acc5de0dba24ece5584f87233ed6f9e0",
    "block3_conv2/bias": "2dfcb4bb7f8a1bfe4649c8dea8bdc84e2058eb7258063960e805a13324038464",
    "block3_conv3/kernel": "ace776cfb805a575d895aa86d374bb672d537d5db15419918720d9e17e853de8",
    "block3_conv3/bias": "bd23367d71708929245d0b1e6109f5e64e08b336d104fda13fd5cec8ba5bee44",
    "block4_conv1/kernel": "1909f6c1a80a6b08535a78e6832c86cbd5289783d568a6e7fe01adacbe943b45",
    "block4_conv1/bias": "c33c2dcc6290bb0f6bd3377f547c29e247355b2209d0b5aa3f701bacbbeed9b9",
    "block4_conv2/kernel": "1250abdd410cb89b9a5afa7b828b82f6f832939206a24eb561bf7d694afe694a",
    "block4_conv2/bias": "c36252293630a716724eb391cf4c62c3ca425a524cafa2e99da3199a3585e943",
    "block4_conv3/kernel": "dc4ec7c7bd32f3bc3f5ed61fc641e191b9ca730448e94fcf1062f49c841d2bf3",
    "block4_conv3/bias": "59a2abf76b13ac1340e953cf668cc9cd923f564f9fa11a8e960ab6d04eb1c4c7",
    "block5_conv1/kernel": "8396e0b82aee60206d48c8aef35928c15f4131f52c9a666ea511943544a9efc1",
    "block5_conv1/bias": "312ab22d6dece721c2617eeacf7dd5146ca5f165a3d0dc8cbefb3b823f2c5d51",
    "block5_conv2/kernel": "691a5087bbf6fab4bbd6decead1c1c161ba311cbcb269cb6141266b2555eccaf",
    "block5_conv2/bias": "16bb5bca01eefdf72e95d4234172051876027824f1c838035f5e6a3ce4dbb4fd",
    "block5_conv3/kernel": "5be0ee0f7ddc0de1f3a2fc891c6c1d227a44fcb11dc0a7e24cad96e1d30db32d",
    "block5_conv3/bias": "384c7a4f72e853a0e0636ce15e30d5133c22238bd8adc37c3bd12ff56939e34f",
}

VGG16 = Architecture(
    "vgg16",
    "VGG16",
    ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)),
    "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
    tensor_sha256=_VGG16_SHA256,
)
VGG19 = Architecture(
    "vgg19",
    "VGG19",
    ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512)),
    "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
    file_md5="253f8cb515780f3b799900260a226db6",
)
ARCHITECTURES = {network.name: network for network in (VGG16, VGG19)}


def architecture_of(backbone: str) -> Architecture:
    """The network of that name. Raises BackboneError if it is none that has weights."""
    try:
        return ARCHITECTURES[backbone]
    except KeyError:
        known = ", ".join(ARCHITECTURES)
        raise BackboneError(
            f"The backbone '{backbone}' has no weights; those that have are: {known}."
        ) from None
