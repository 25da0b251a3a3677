"""Gemma: like Llama; from the second version on, a norm also follows each part before it joins the stream."""

from dataclasses import replace

from cutaway.networks.families._blocks import Reads
from cutaway.networks.families.llama import LLAMA, SEPARATE
from cutaway.registry import FAMILIES

GEMMA = replace(LLAMA, class_names=("GemmaFor", "GemmaModel"), excluded=())
FAMILIES.register("gemma")(GEMMA)
FAMILIES.register("gemma2")(
    replace(
        GEMMA,
        class_names=("Gemma2", "Gemma3ForCausalLM", "Gemma3TextModel"),
        attn_out=("post_attention_layernorm", "output"),
        mlp_out=("post_feedforward_layernorm", "output"),
        resid_mid=("pre_feedforward_layernorm", "input"),
        reads=(Reads(SEPARATE, "input_layernorm", "mlp", "pre_feedforward_layernorm"),),
    )
)
