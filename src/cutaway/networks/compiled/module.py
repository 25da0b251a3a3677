"""A plain transformer whose every inside can be seen: token and position tables, attention, ReLU MLPs, unembedding.

Parameter names and arithmetic are those of the folders that google-deepmind/tracr programs are exported to (Lindner et
al. 2023, "Tracr: Compiled Transformers as a Laboratory for Interpretability"): weights [out in], scores divided by
sqrt(key_size), no bias in the unembedding. Layer norms and the MLPs are optional. Queries, keys, values, patterns and
the stream itself pass through ``nn.Identity`` parts, so that ordinary output hooks see and change them.
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from cutaway.errors import BadInput
from cutaway.networks.compiled.spec import Spec, Value, Words


class Attention(nn.Module):
    """Softmax attention; head h owns rows ``h*key_size`` to ``(h+1)*key_size`` of its maps."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        inner = spec.num_heads * spec.key_size
        self.num_heads, self.key_size = spec.num_heads, spec.key_size
        self.query = nn.Linear(spec.d_model, inner)
        self.key = nn.Linear(spec.d_model, inner)
        self.value = nn.Linear(spec.d_model, inner)
        self.linear = nn.Linear(inner, spec.d_model)
        self.q, self.k, self.v, self.pattern = (nn.Identity() for _ in range(4))

    def forward(
        self, x: Float[Tensor, "batch pos d_model"], visible: Bool[Tensor, "#batch 1 #pos pos"] | None
    ) -> Float[Tensor, "batch pos d_model"]:
        """What all heads together add to the stream; ``visible`` is True where a query may look at a key."""
        q = self.q(self._split(self.query(x)))
        k = self.k(self._split(self.key(x)))
        v = self.v(self._split(self.value(x)))
        scores = q @ k.transpose(-1, -2) / math.sqrt(self.key_size)
        if visible is not None:
            scores = scores.masked_fill(~visible, torch.finfo(scores.dtype).min)
        mixed = self.pattern(scores.softmax(-1)) @ v
        return self.linear(mixed.transpose(1, 2).flatten(-2))

    def _split(self, side_by_side: Tensor) -> Tensor:
        return side_by_side.unflatten(-1, (self.num_heads, self.key_size)).transpose(1, 2)


class MLP(nn.Module):
    """One hidden layer of ReLU neurons."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(spec.d_model, spec.mlp_hidden)
        self.linear_2 = nn.Linear(spec.mlp_hidden, spec.d_model)

    def forward(self, x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
        """What the MLP adds to the stream."""
        return self.linear_2(torch.relu(self.linear_1(x)))


class Block(nn.Module):
    """Attention, then the MLP if there is one; each reads the stream (normed, where there are norms) and adds to it."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.attn = Attention(spec)
        self.mid = nn.Identity()
        if spec.layer_norm:
            self.norm1 = nn.LayerNorm(spec.d_model)
        if spec.mlp_hidden:
            self.mlp = MLP(spec)
            if spec.layer_norm:
                self.norm2 = nn.LayerNorm(spec.d_model)

    def forward(
        self, x: Float[Tensor, "batch pos d_model"], visible: Bool[Tensor, "#batch 1 #pos pos"] | None = None
    ) -> Float[Tensor, "batch pos d_model"]:
        """The stream after this block."""
        x = self.mid(x + self.attn(self.norm1(x) if hasattr(self, "norm1") else x, visible))
        if not hasattr(self, "mlp"):
            return x
        return x + self.mlp(self.norm2(x) if hasattr(self, "norm2") else x)


class CompiledTransformer(nn.Module):
    """The network itself; ``spec`` says what it is and how its output is read."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.spec = spec
        self.token_embed = nn.Embedding(spec.vocab_size, spec.d_model)
        self.pos_embed = nn.Embedding(spec.max_len + 1, spec.d_model)
        self.stream = nn.Identity()
        self.layers = nn.ModuleList(Block(spec) for _ in range(spec.num_layers))
        if spec.layer_norm:
            self.final_norm = nn.LayerNorm(spec.d_model)
        self.unembed = nn.Linear(spec.d_model, spec.num_outputs, bias=False)

    @property
    def config(self) -> Spec:
        """The specification, under the name by which transformers keep theirs."""
        return self.spec

    def forward(
        self, input_ids: Int[Tensor, "batch pos"], attention_mask: Int[Tensor, "batch pos"] | None = None
    ) -> Float[Tensor, "batch pos out"]:
        """Token ids with BOS in front -> one score for each output value, or the number itself (out = 1).

        Positions where ``attention_mask`` is 0 are attended to by nobody; what is computed there means nothing.
        """
        length = input_ids.shape[1]
        if length > self.spec.max_len + 1:
            raise BadInput(
                f"Inputs of {length} tokens were given; {self.spec.name} takes BOS and up to {self.spec.max_len} more."
            )
        places = torch.arange(length, device=input_ids.device).expand(input_ids.shape)
        x = self.stream(self.token_embed(input_ids) + self.pos_embed(places))
        visible = self.visible(length, attention_mask)
        for layer in self.layers:
            x = layer(x, visible)
        return self.unembed(self.final_norm(x) if hasattr(self, "final_norm") else x)

    def visible(
        self, length: int, attention_mask: Int[Tensor, "batch pos"] | None
    ) -> Bool[Tensor, "#batch 1 #pos pos"] | None:
        """Which keys each query may look at; None where it may look at all."""
        seen = None if attention_mask is None else attention_mask.bool()[:, None, None]
        if not self.spec.causal:
            return seen
        device = self.token_embed.weight.device
        past = torch.ones(1, 1, length, length, dtype=torch.bool, device=device).tril()
        return past if seen is None else past & seen

    @torch.no_grad()
    def answer(self, words: Words) -> list[Value]:
        """What the network answers to one input, one value for each word (BOS is put in front, its output dropped)."""
        ids = torch.tensor([self.spec.vocabulary.encode(words)], device=self.token_embed.weight.device)
        return self.spec.output.decode(self(ids)[0, 1:])
