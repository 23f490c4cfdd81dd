"""The one vocabulary of reasons, used alike in conditions, Events, metrics and logs."""

from enum import StrEnum


class Reason(StrEnum):
    """CamelCase words that Kubernetes accepts as a condition's reason."""

    # data
    FRESH = "Fresh"
    NO_SERIES = "NoSeries"
    STALE_SERIES = "StaleSeries"
    NOT_A_NUMBER = "NotANumber"
    SOURCE_UNREACHABLE = "SourceUnreachable"
    BAD_ANSWER = "BadAnswer"
    NO_HISTORY = "NoHistory"
    NO_ZONE = "NoZone"
    NO_INTENSITY = "NoIntensity"
    NO_WORK = "NoWork"

    # state of a service
    AS_ASKED = "AsAsked"
    ALL_READY = "AllReady"
    STARTING = "Starting"
    DRAINING = "Draining"
    RESTING = "Resting"
    STOPPED = "Stopped"
    NOT_READY = "NotReady"
    PAUSED = "Paused"
    INVALID = "Invalid"
    TARGET_NOT_FOUND = "TargetNotFound"
    POLICY_FOUND = "PolicyFound"
    NO_POLICY = "NoPolicy"
    OBJECTIVES_MET = "ObjectivesMet"
    OBJECTIVES_MISSED = "ObjectivesMissed"
    NO_OBJECTIVES = "NoObjectives"
    RECOMMENDED = "Recommended"

    # why capacity changes
    FIRST_START = "FirstStart"
    QUEUE_GROWING = "QueueGrowing"
    CONCURRENCY = "Concurrency"
    KV_CACHE_FULL = "KvCacheFull"
    TOKEN_RATE = "TokenRate"  # noqa: S105 - a rate of tokens, not a credential
    LOAD_FELL = "LoadFell"
    IDLE_LONG_ENOUGH = "IdleLongEnough"
    WAKE_ANNOTATION = "WakeAnnotation"
    WAKE_SCALE = "WakeScale"
    WAKE_WAITING = "WakeWaiting"
    REQUESTED = "Requested"
    CARBON_TIER = "CarbonTier"
    TIER_ENDED = "TierEnded"
    SWITCH_COMPLETE = "SwitchComplete"
    LIMITS = "Limits"

    # why nothing changes
    STEADY = "Steady"
    OBSERVE_ONLY = "ObserveOnly"
    DATA_MISSING = "DataMissing"
    DWELL = "Dwell"
    PENDING_CAPACITY = "PendingCapacity"
    WINDOW_NOT_FULL = "WindowNotFull"
    PEERS_TOO_BUSY = "PeersTooBusy"
    STEP_LIMIT = "StepLimit"
    MIN_REPLICAS = "MinReplicas"
    MAX_REPLICAS = "MaxReplicas"
    QUALITY_FLOOR = "QualityFloor"
    NO_MEASURED_ADVANTAGE = "NoMeasuredAdvantage"
    NOT_IDLE_LONG_ENOUGH = "NotIdleLongEnough"
    OBJECTIVE_VETO = "ObjectiveVeto"
    SWITCHING = "Switching"
    LEVER_OFF = "LeverOff"
    WRITE_FAILED = "WriteFailed"
