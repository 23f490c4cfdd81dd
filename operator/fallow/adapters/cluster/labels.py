"""Names that Fallow writes on what it creates, and reads back to know its own."""

GROUP = "fallow.dev"
SERVICE = f"{GROUP}/service"
VARIANT = f"{GROUP}/variant"
PRECISION = f"{GROUP}/precision"
SPEC_HASH = f"{GROUP}/spec-hash"
# on the pods of engines whose clocks fall while they have nothing to do
IDLE_CLOCKS = f"{GROUP}/idle-clocks"
# on the pods of engines of which Fallow limits the tokens of a step: how many
STEP_TOKENS = f"{GROUP}/step-tokens"
# on autoscalers of others whose minimum Fallow set: what their owner declared, and what Fallow wrote
DECLARED_MINIMUM = f"{GROUP}/declared-minimum"
SET_MINIMUM = f"{GROUP}/set-minimum"
# on pods that Fallow shields while they load: the names of what it set there, and OVER once that is taken back
SHIELD = f"{GROUP}/startup-shield"
OVER = "over"
DO_NOT_DISRUPT = "karpenter.sh/do-not-disrupt"
SAFE_TO_EVICT = "cluster-autoscaler.kubernetes.io/safe-to-evict"
# on nodes that cluster-autoscaler does not remove; Karpenter reads DO_NOT_DISRUPT there too
KEEP_NODE = "cluster-autoscaler.kubernetes.io/scale-down-disabled"
# on pods that are to go first when their Deployment becomes smaller, by what Fallow writes there
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
LEAVES = "-1000"
# on nodes that Fallow cordons to have their replicas move: since when; or KEPT, and when that was given up
EMPTYING = f"{GROUP}/emptying"
KEPT = "kept"

GPU = "nvidia.com/gpu"
GPU_PRODUCT = "nvidia.com/gpu.product"
# as GPU feature discovery writes them
GPU_COUNT = "nvidia.com/gpu.count"
GPU_COPIES = "nvidia.com/gpu.replicas"
