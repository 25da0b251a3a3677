"""GPT-NeoX and Pythia: attention and MLP may read the same stream in parallel, so no stream lies between them."""

from cutaway.networks.families._blocks import BlockFamily, Reads
from cutaway.registry import FAMILIES

FAMILIES.register("gpt_neox")(
    BlockFamily(
        class_names=("GPTNeoX",),
        excluded=("GPTNeoXJapanese",),
        modality="text",
        body=("gpt_neox", ""),
        blocks="layers",
        embed="emb_dropout",
        attention="attention",
        heads="attention.dense",
        mlp="mlp.dense_4h_to_h",
        attn_out=("attention.dense", "output"),
        mlp_out=("mlp.dense_4h_to_h", "output"),
        resid_mid=None,
        final="final_layer_norm",
        head=("lm_head", "embed_out", "score"),
        reads=(
            Reads(
                ("attention.query_key_value",),
                "input_layernorm",
                "mlp",
                "post_attention_layernorm",
                by_head=True,
                parallel="use_parallel_residual",
            ),
        ),
    )
)
