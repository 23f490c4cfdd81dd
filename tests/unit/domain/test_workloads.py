"""Services as declared."""

from fallow.domain.figures import Figure
from fallow.domain.units import Grams, Joules
from fallow.domain.workloads import Overhead, ServiceKey
from tests.support.builders import BF16, FP8, service


def test_the_first_variant_is_the_reference() -> None:
    assert service(FP8, BF16).reference is FP8


def test_variants_are_found_by_name() -> None:
    both = service(BF16, FP8)
    assert both.variant("fp8") is FP8
    assert both.variant("int4") is None


def test_a_key_reads_as_namespace_and_name() -> None:
    assert str(ServiceKey("llm", "chat")) == "llm/chat"
    assert ServiceKey("a", "b") < ServiceKey("b", "a")


def test_the_more_tokens_share_a_training_the_less_falls_on_each() -> None:
    overhead = Overhead((1e6, 2e6, 4e6), energy=Joules(8e6))
    assert overhead.energy_per_token == Figure(Joules(2), Joules(4), Joules(8))
    assert overhead.carbon_per_token is None
    assert Overhead((10, 10, 10), carbon=Grams(5)).carbon_per_token == Figure.exact(Grams(0.5))
