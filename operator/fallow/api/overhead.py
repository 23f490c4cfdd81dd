"""What a model cost before it served: training and tuning, as the owner of an InferenceService declares them."""

from pydantic import Field

from fallow.api.formats import Line
from fallow.api.model import ApiModel, Rule

_LARGEST = 1e18


class Effort(ApiModel):
    """What one stage took, in all."""

    rules = (
        Rule(
            "has(self.energyKWh) || has(self.carbonKg)",
            lambda e: e.energy_kwh is not None or e.carbon_kg is not None,
            "energyKWh or carbonKg must be given, or both",
        ),
    )

    energy_kwh: float | None = Field(
        alias="energyKWh", default=None, ge=0, le=_LARGEST, description="Energy, kWh. Absent: not known."
    )
    carbon_kg: float | None = Field(
        default=None, ge=0, le=_LARGEST, description="Emissions, kgCO2e. Absent: not known."
    )


class TokenBounds(ApiModel):
    """Fewest and most tokens that are thought possible."""

    low: float = Field(gt=0, le=_LARGEST, description="Lower bound.")
    high: float = Field(gt=0, le=_LARGEST, description="Upper bound.")


class Overhead(ApiModel):
    """Training and tuning, shared out to every token that the model will generate in its life."""

    rules = (
        Rule(
            "has(self.training) || has(self.tuning)",
            lambda o: o.training is not None or o.tuning is not None,
            "overhead must give training or tuning, or both",
        ),
        Rule(
            "!has(self.bounds) || (self.bounds.low <= self.lifetimeTokens && self.lifetimeTokens <= self.bounds.high)",
            lambda o: o.bounds is None or o.bounds.low <= o.lifetime_tokens <= o.bounds.high,
            "overhead.bounds must enclose lifetimeTokens; widen low and high or correct lifetimeTokens",
            ".bounds",
        ),
    )

    training: Effort | None = Field(default=None, description="Training of the base model. Absent: not counted.")
    tuning: Effort | None = Field(default=None, description="Fine-tuning and evaluation. Absent: not counted.")
    lifetime_tokens: float = Field(
        ge=1, le=_LARGEST, description="Tokens that the model will generate in its life, wherever it is served."
    )
    bounds: TokenBounds | None = Field(
        default=None, description="Bounds of lifetimeTokens. Absent: lifetimeTokens counts as exact."
    )
    source: Line = Field(default="", description="Where the numbers come from, such as the model card.")
