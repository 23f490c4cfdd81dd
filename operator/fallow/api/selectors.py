"""Kubernetes label selectors: which objects a policy or a zone is for."""

from typing import Annotated, Literal

from pydantic import Field

from fallow.api.formats import Format, LabelValue
from fallow.api.model import ApiModel, Rule
from fallow.domain.policies import Operator, Requirement, Selector

LABEL_KEY = Format(
    r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$",
    "must be a label key such as team or topology.kubernetes.io/region",
)
LabelKey = Annotated[str, Field(min_length=1, max_length=317), LABEL_KEY]
Labels = Annotated[dict[Annotated[str, Field(max_length=317)], LabelValue], Field(max_length=32)]


class LabelRequirement(ApiModel):
    """One condition on a label."""

    rules = (
        Rule(
            "self.operator in ['In', 'NotIn'] ? size(self.values) > 0 : size(self.values) == 0",
            lambda r: bool(r.values) == (r.operator in {"In", "NotIn"}),
            "values must have at least one entry for operator In or NotIn, and none for Exists or DoesNotExist",
            ".values",
        ),
    )

    key: LabelKey = Field(description="Label key that the condition is about.")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"] = Field(
        description="In or NotIn compare the label's value with values; Exists and DoesNotExist look only for the key."
    )
    values: list[LabelValue] = Field(
        default=[], max_length=32, description="Values to compare with; empty for Exists and DoesNotExist."
    )


class LabelSelector(ApiModel):
    """All conditions must hold; an empty selector matches everything."""

    match_labels: Labels = Field(default={}, description="Labels that an object must carry with exactly these values.")
    match_expressions: list[LabelRequirement] = Field(
        default=[], max_length=16, description="Conditions on labels beyond equality; all of them must hold."
    )

    def to_domain(self) -> Selector:
        equal = tuple(Requirement(key, Operator.IN, (value,)) for key, value in sorted(self.match_labels.items()))
        more = tuple(
            Requirement(part.key, Operator(part.operator), tuple(part.values)) for part in self.match_expressions
        )
        return Selector(equal + more)


def selector(declared: LabelSelector | None) -> Selector:
    return declared.to_domain() if declared is not None else Selector()
