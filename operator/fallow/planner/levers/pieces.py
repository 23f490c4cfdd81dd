"""Steps with few tokens of prompts, where prompts that are computed whole hold answers up and keep replicas empty.

Engines are started with a lower --max-num-batched-tokens. It costs energy at the same load, since steps are more and a
prompt is spread over several of them, and saves replicas where answers are short and come in between many prompts.
"""

from fallow.domain.reasons import Reason
from fallow.domain.units import Watts
from fallow.footprint.hardware import hardware_of
from fallow.planner import replacing
from fallow.planner.capacity import profile_for
from fallow.planner.context import Context, Proposal
from fallow.planner.pieces import Pieces, in_pieces, whole, why_whole

NAME = "StepTokens"
# A replica must carry so many times as much in pieces; and once it works so, hardly more than whole.
GAIN, KEPT = 1.2, 1.0
# Another number of tokens is worth replacing the engines from this change on.
MOVED = 0.15


def propose(context: Context) -> Proposal | None:
    """Replace the engines by such that take fewer tokens in a step, other ones, or as many as vLLM does; None where
    they are as they should be, or too little is known to tell.
    """
    if not context.policy.name or context.memory.switching_to is not None or not context.replicas:
        return None
    now = context.step_tokens.get(context.serving.name)
    if not context.policy.scaling.limits_steps or why_whole(context.service) is not None:
        return None if now is None else _proposed(context, None, "the policy leaves steps as they are", None)
    profile, recent = profile_for(context.serving, context.profiles, context.product), context.habits.arrivals
    # the fewest replicas stay, however much more each of them would carry
    may_spare = now is not None or context.replicas > max(context.floor, 1)
    if profile is None or not recent.is_known or not may_spare:
        return None
    found = in_pieces(context.service, context.serving, profile, recent)
    wanted = found is not None or now is not None
    plain = whole(context.service, context.serving, profile, recent, context.replicas) if wanted else None
    if plain is None:
        return None
    carried = 0.0 if found is None else found.within(context.service.objectives, context.replicas)
    if now is not None and carried < plain * KEPT:
        return _proposed(context, None, _words(carried, plain), None)
    if found is None or carried == 0 or _is_near(now, found) or (now is None and carried < plain * GAIN):
        return None
    spared = _spared(context, plain / carried)
    saves = _saved(context, spared) if now is None else None
    if now is None and not replacing.pays(context, saves, spared):
        return None
    return _proposed(context, found, _words(carried, plain), saves)


def _words(carried: float, plain: float) -> str:
    return f"a replica carries {carried:.3g} requests/s in pieces and {plain:.3g} whole"


def _proposed(context: Context, found: Pieces | None, words: str, saves: Watts | None) -> Proposal:
    tokens = {name: count for name, count in context.step_tokens.items() if name != context.serving.name}
    if found is not None:
        tokens[context.serving.name] = found.tokens
    what = "as many tokens as vLLM takes" if found is None else f"at most {found.tokens} tokens"
    message = f"engines are replaced one after the other by such whose steps have {what}: {words}"
    vetoes = replacing.vetoes(context)
    if vetoes:
        return Proposal(NAME, vetoes[0].reason, f"{message}; {vetoes[0].message}", vetoes=vetoes)
    return Proposal(NAME, Reason.STEP_TOKENS, message, context.current, saves=saves, step_tokens=tokens)


def _is_near(now: int | None, found: Pieces) -> bool:
    return now is not None and abs(found.tokens - now) <= MOVED * now


def _spared(context: Context, share: float) -> float:
    """GPUs of the replicas that are not needed any more where `share` of them carry as much."""
    replicas = max(context.replicas - max(context.floor, 1), 0) * (1.0 - share)
    return replicas * context.serving.gpus


def _saved(context: Context, spared: float) -> Watts | None:
    """What these GPUs draw without work; None where they are not known."""
    return None if context.product is None else hardware_of(context.product).context * spared
