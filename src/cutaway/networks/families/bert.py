"""BERT: encoders that attend both ways, with LayerNorm after each part."""

from cutaway.networks.families._blocks import BlockFamily, Reads
from cutaway.registry import FAMILIES

FAMILIES.register("bert")(
    BlockFamily(
        class_names=("Bert", "Roberta", "Electra", "XLMRoberta", "Camembert"),
        excluded=("BertGeneration", "BertJapanese"),
        modality="text",
        body=("", "bert", "roberta", "electra"),
        blocks="encoder.layer",
        embed="embeddings",
        attention="attention.self",
        heads="attention.output.dense",
        mlp="output.dense",
        attn_out=("attention.output.dense", "output"),
        mlp_out=("output.dense", "output"),
        resid_mid=("attention.output.LayerNorm", "output"),
        head=("classifier",),
        reads=(
            Reads(
                ("attention.self.query", "attention.self.key", "attention.self.value"),
                None,
                "intermediate",
                None,
                pre_norm=False,
                causal=False,
            ),
        ),
    )
)
