"""Llama and what is built like it: RMSNorm before each part, grouped queries, RoPE, gated MLP."""

from cutaway.networks.families._blocks import BlockFamily, Reads
from cutaway.registry import FAMILIES

SEPARATE = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")

LLAMA = BlockFamily(
    class_names=("Llama", "Mistral", "Qwen2", "Qwen3", "Phi3", "Olmo", "SmolLM3", "Granite"),
    excluded=(
        "Qwen2Moe",
        "Qwen3Moe",
        "Qwen2VL",
        "Qwen3VL",
        "Qwen3Next",
        "GraniteMoe",
        "Olmo2",
        "Olmo3",
        "OlmoHybrid",
    ),
    modality="text",
    body=("model", ""),
    blocks="layers",
    embed="embed_tokens",
    attention="self_attn",
    heads="self_attn.o_proj",
    mlp="mlp.down_proj",
    attn_out=("self_attn.o_proj", "output"),
    mlp_out=("mlp.down_proj", "output"),
    resid_mid=("post_attention_layernorm", "input"),
    final="norm",
    head=("lm_head", "score"),
    reads=(
        Reads(SEPARATE, "input_layernorm", "mlp", "post_attention_layernorm"),
        Reads(("self_attn.qkv_proj",), "input_layernorm", "mlp", "post_attention_layernorm"),
    ),
)
FAMILIES.register("llama")(LLAMA)
