"""Writing text with any model that is a `Session`: greedy, sampled and by beams, with the tokens of Transformers."""

from .api import Generated, generate, stream
from .config import GenerationConfig
from .loop import Step, set_seed
from .options import GenerationOptions
from .protocol import Decode, Session, Streamer

__all__ = [
    "Decode",
    "Generated",
    "GenerationConfig",
    "GenerationOptions",
    "Session",
    "Step",
    "Streamer",
    "generate",
    "set_seed",
    "stream",
]
