"""Services as declared."""

from fallow.domain.workloads import ServiceKey
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
