"""GPT-2: LayerNorm before each part, learned positions, weights stored [in, out]."""

from cutaway.networks.families._blocks import BlockFamily, Reads
from cutaway.registry import FAMILIES

FAMILIES.register("gpt2")(
    BlockFamily(
        class_names=("GPT2",),
        modality="text",
        body=("transformer", ""),
        blocks="h",
        embed="drop",  # token plus position; dropout is the identity in evaluation
        attention="attn",
        heads="attn.c_proj",
        mlp="mlp.c_proj",
        attn_out=("attn.c_proj", "output"),
        mlp_out=("mlp.c_proj", "output"),
        resid_mid=("ln_2", "input"),
        final="ln_f",
        head=("lm_head", "score"),
        reads=(Reads(("attn.c_attn",), "ln_1", "mlp", "ln_2"),),
    )
)
