"""Model clients: one port, one file per provider."""

from runtime.models.base import (
    Emit,
    Model,
    ModelReply,
    ModelRequest,
    Schema,
    StopReason,
    ToolChoice,
    ToolSpec,
)

__all__ = [
    "Emit",
    "Model",
    "ModelReply",
    "ModelRequest",
    "Schema",
    "StopReason",
    "ToolChoice",
    "ToolSpec",
]
