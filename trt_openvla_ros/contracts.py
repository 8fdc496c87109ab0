"""What comes out of a policy: every field with its shape and unit."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Prediction:
    """What the policy answers.

    Attributes:
        action: [D] float64; m, rad, gripper as the data set has it (OXE: 0 closed, 1 open).
        normalised_action: [D] float64 in (-1, 1), before statistics were applied.
        action_ids: [D] int64 token ids.
        generated_ids: [T] int64, everything the model wrote, end of sequence included.
        reasoning: Text before the action; '' for models that do not reason.
        reasoning_fields: The text by tag ('PLAN', 'MOVE', ...), in the order written.
        prompt: What the model read.
        unnorm_key: The statistics that were applied.
        out_of_range: How many of the action ids an unconstrained argmax would have put
            outside the action range; 0 for a healthy model.
        timings: Seconds by part: preprocess, vision, prefill, decode, total.
    """

    action: np.ndarray
    normalised_action: np.ndarray
    action_ids: np.ndarray
    generated_ids: np.ndarray
    reasoning: str
    prompt: str
    unnorm_key: str
    reasoning_fields: dict[str, str] = field(default_factory=dict)
    out_of_range: int = 0
    timings: dict[str, float] = field(default_factory=dict)
