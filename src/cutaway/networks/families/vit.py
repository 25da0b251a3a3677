"""Vision transformers: image patches as positions, the first one a class token."""

from cutaway.networks.families._blocks import BlockFamily
from cutaway.registry import FAMILIES

FAMILIES.register("vit")(
    BlockFamily(
        class_names=("ViT", "DeiT"),
        excluded=("ViTMAE", "ViTMSN", "ViTDet", "ViTPose", "ViTHybrid"),
        modality="image",
        body=("vit", "deit", ""),
        blocks="layers",
        embed="embeddings",
        attention="attention",
        heads="attention.o_proj",
        mlp="mlp.fc2",
        attn_out=("attention.o_proj", "output"),
        mlp_out=("mlp.fc2", "output"),
        resid_mid=("layernorm_after", "input"),
        final="layernorm",
        head=("classifier",),
    )
)
