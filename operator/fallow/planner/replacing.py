"""When engines may be replaced one after the other for the sake of how they are started."""

from fallow.domain.plans import Veto
from fallow.domain.profiles import Profile
from fallow.domain.reasons import Reason
from fallow.domain.units import Joules, Seconds, Watts, energy
from fallow.footprint.hardware import hardware_of
from fallow.planner import guards
from fallow.planner.capacity import profile_for
from fallow.planner.context import Context

# Engines are replaced where it is paid back within this time at the load of the last minutes. A choice.
PAID_BACK = Seconds(86_400)
# Seconds of a start where no profile tells them; the engine that is replaced runs on meanwhile.
START, TWICE = Seconds(120), 2.0


def to_load(profile: Profile | None, loaded: Watts) -> tuple[Joules, Seconds]:
    """What a start of one replica takes that draws so much loaded: by its profile where that tells."""
    seconds = (profile.load_seconds if profile else None) or START
    known = profile.load_energy if profile else None
    return energy(loaded, Seconds(seconds * TWICE)) if known is None else known, seconds


def pays(context: Context, saves: Watts | None, spared: float = 0.0) -> bool:
    """Whether it gives back what replacing the engines takes, by the policy's objective; `spared` are GPUs that are
    held no more then.
    """
    if saves is None or context.product is None:
        return False
    profile = profile_for(context.serving, context.profiles, context.product)
    seconds = (profile.load_seconds if profile else None) or START
    gpus = context.asked(context.serving.name) * context.serving.gpus
    rates = context.weighing.here.rates
    takes = rates.of(hardware_of(context.product).context.value * gpus * seconds * TWICE, gpus * seconds)
    return rates.of(saves.value, spared) * PAID_BACK > takes


def vetoes(context: Context) -> tuple[Veto, ...]:
    """As before a replica goes; and one service at a time, since each needs room for one more engine."""
    return guards.raised(
        guards.freshness(context),
        guards.pending(context),
        guards.window(context, context.policy.scaling.down_window),
        *guards.pace(context),
        _turn(context),
    )


def _turn(context: Context) -> Veto | None:
    others = sorted(str(key) for key in context.around.rolling if key != context.service.key)
    if not others:
        return None
    return Veto("turn", Reason.ROLLING_ELSEWHERE, f"the engines of {others[0]} are being replaced")
