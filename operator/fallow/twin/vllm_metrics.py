"""The /metrics answer of vLLM 0.32 for one simulated engine: names, types, labels and order of a real one."""

from __future__ import annotations

from math import nan

from fallow.twin.exposition import Labels, Page, labelled
from fallow.twin.physics.constants import GPU_MEMORY_UTILIZATION
from fallow.twin.physics.engine import Engine, EngineState
from fallow.twin.physics.histogram import Histogram
from fallow.twin.pods import EngineFacts

MFU = "(for Model Flops Utilization calculations)."


def vllm_metrics(facts: EngineFacts, engine: Engine, *, started: float, broken_gauges: bool = False) -> str:
    """`broken_gauges` writes NaN for what is a gauge, as a fault to be survived."""
    own: Labels = (("engine", "0"), ("model_name", facts.served_name))
    page = Page(started)
    page.gauge("process_start_time_seconds", "Start time of the process since unix epoch in seconds.", [((), started)])
    _work(page, own, engine)
    _load(page, own, engine, broken=broken_gauges)
    _tokens(page, own, engine)
    _outcomes(page, own, engine)
    _lengths(page, own, engine)
    _latencies(page, own, engine)
    _cache_config(page, facts, engine)
    _sleep_operations(page, engine)
    return page.text()


def _work(page: Page, own: Labels, engine: Engine) -> None:
    counters = engine.counters
    for name, explanation, value in (
        ("flops", "Estimated number of floating point operations per GPU", counters.flops),
        ("read_bytes", "Estimated number of bytes read from memory per GPU", counters.read_bytes),
        ("write_bytes", "Estimated number of bytes written to memory per GPU", counters.write_bytes),
    ):
        page.counter(f"vllm:estimated_{name}_per_gpu", f"{explanation} {MFU}", [(own, value)])


def _load(page: Page, own: Labels, engine: Engine, *, broken: bool) -> None:
    def reading(value: float) -> float:
        return nan if broken else value

    page.gauge(
        "vllm:num_requests_running", "Number of requests in model execution batches.", [(own, reading(engine.running))]
    )
    waiting = reading(engine.waiting)
    page.gauge("vllm:num_requests_waiting", "Number of requests waiting to be processed.", [(own, waiting)])
    page.gauge(
        "vllm:num_requests_waiting_by_reason",
        "Number of waiting requests by reason. Reason labels: 'capacity' = waiting for scheduling capacity; "
        "'deferred' = deferred by transient constraints (LoRA budget, KV transfer, blocked status). "
        "Sum of all reasons equals vllm:num_requests_waiting.",
        [(labelled(own, reason="capacity"), waiting), (labelled(own, reason="deferred"), 0.0)],
    )
    sleeping = engine.state is not EngineState.AWAKE
    states = {
        "awake": not sleeping,
        "weights_offloaded": sleeping and engine.sleep_level == 1,
        "discard_all": sleeping and engine.sleep_level == 2,
    }
    page.gauge(
        "vllm:engine_sleep_state",
        "Engine sleep state; awake = 0 means engine is sleeping; awake = 1 means engine is awake; "
        "weights_offloaded = 1 means sleep level 1; discard_all = 1 means sleep level 2.",
        [(labelled(own, sleep_state=state), float(holds)) for state, holds in states.items()],
    )
    page.gauge(
        "vllm:kv_cache_usage_perc",
        "KV-cache usage. 1 means 100 percent usage.",
        [(own, reading(engine.kv_usage))],
    )


def _tokens(page: Page, own: Labels, engine: Engine) -> None:
    counters = engine.counters
    queried = "in terms of number of queried tokens."
    hit = "in terms of number of cached tokens."
    shared = "from KV connector cross-instance cache sharing,"
    for name, explanation, value in (
        ("prefix_cache_queries", f"Prefix cache queries, {queried}", counters.cache_queries),
        ("prefix_cache_hits", f"Prefix cache hits, {hit}", counters.cache_hits),
        ("external_prefix_cache_queries", f"External prefix cache queries {shared} {queried}", 0),
        ("external_prefix_cache_hits", f"External prefix cache hits {shared} {hit}", 0),
        ("mm_cache_queries", "Multi-modal cache queries, in terms of number of queried items.", 0),
        ("mm_cache_hits", "Multi-modal cache hits, in terms of number of cached items.", 0),
        ("num_preemptions", "Cumulative number of preemption from the engine.", counters.preempted),
        ("prompt_tokens", "Number of prefill tokens processed.", counters.prompt_tokens),
    ):
        page.counter(f"vllm:{name}", explanation, [(own, value)])
    sources = {
        "local_compute": counters.prompt_tokens - counters.cached_tokens,
        "local_cache_hit": counters.cached_tokens,
        "external_kv_transfer": 0,
    }
    page.counter(
        "vllm:prompt_tokens_by_source",
        "Number of prompt tokens by source.",
        [(labelled(own, source=source), count) for source, count in sources.items()],
    )
    page.counter(
        "vllm:prompt_tokens_cached",
        "Number of cached prompt tokens (local + external).",
        [(own, counters.cached_tokens)],
    )
    tiers = {"device": counters.cache_hits, "host": 0, "p2p": 0, "disk": 0, "external_unspecified": 0}
    page.counter(
        "vllm:prompt_tokens_cached_by_source",
        "Prefix-cache hit tokens by the cache tier that supplied them: device (local HBM), host (offloaded to DRAM), "
        "disk, p2p (transferred from another vLLM instance) or external_unspecified. Counted at admission; sums to "
        "vllm:prefix_cache_hits + vllm:external_prefix_cache_hits.",
        [(labelled(own, source=tier), count) for tier, count in tiers.items()],
    )
    page.counter("vllm:generation_tokens", "Number of generation tokens processed.", [(own, counters.generated_tokens)])


def _outcomes(page: Page, own: Labels, engine: Engine) -> None:
    page.counter(
        "vllm:request_success",
        "Count of successfully processed requests.",
        [(labelled(own, finished_reason=reason), count) for reason, count in engine.counters.finished.items()],
    )
    model = tuple(pair for pair in own if pair[0] == "model_name")
    page.counter(
        "vllm:admission_rejections",
        "Number of admission attempts rejected by a queue limit, by reason.",
        [(labelled(model, reason=reason), 0.0) for reason in ("max_num_queued_reqs", "max_num_queued_tokens")],
    )


def _lengths(page: Page, own: Labels, engine: Engine) -> None:
    counters = engine.counters
    for name, explanation, histogram in (
        ("request_prompt_tokens", "Number of prefill tokens processed.", counters.request_prompt),
        ("request_generation_tokens", "Number of generation tokens processed.", counters.request_generation),
        ("iteration_tokens_total", "Histogram of number of tokens per engine_step.", counters.iterations),
        (
            "request_max_num_generation_tokens",
            "Histogram of maximum number of requested generation tokens.",
            counters.request_max_generation,
        ),
        ("request_params_n", "Histogram of the n request parameter.", counters.params_n),
        ("request_params_max_tokens", "Histogram of the max_tokens request parameter.", counters.params_max_tokens),
    ):
        page.histogram(f"vllm:{name}", explanation, {own: histogram})


def _latencies(page: Page, own: Labels, engine: Engine) -> None:
    counters = engine.counters
    spent = "Histogram of time spent in"
    for name, explanation, histogram in (
        ("time_to_first_token_seconds", "Histogram of time to first token in seconds.", counters.ttft),
        ("inter_token_latency_seconds", "Histogram of inter-token latency in seconds.", counters.itl),
        (
            "request_time_per_output_token_seconds",
            "Histogram of time_per_output_token_seconds per request.",
            counters.time_per_token,
        ),
        ("e2e_request_latency_seconds", "Histogram of e2e request latency in seconds.", counters.e2e),
        ("request_queue_time_seconds", f"{spent} WAITING phase for request.", counters.queue),
        ("request_inference_time_seconds", f"{spent} RUNNING phase for request.", counters.inference),
        ("request_prefill_time_seconds", f"{spent} PREFILL phase for request.", counters.prefill),
        ("request_decode_time_seconds", f"{spent} DECODE phase for request.", counters.decode),
        (
            "request_num_preemptions",
            "Histogram of the number of times a request was preempted.",
            counters.preemptions,
        ),
        (
            "request_prefill_kv_computed_tokens",
            "Histogram of new KV tokens computed during prefill (excluding cached tokens).",
            counters.prefill_computed,
        ),
    ):
        page.histogram(f"vllm:{name}", explanation, {own: histogram})


def _cache_config(page: Page, facts: EngineFacts, engine: Engine) -> None:
    block = facts.block_tokens
    blocks = engine.law.kv_tokens // block
    config = {
        "_block_size_resolved": "True",
        "block_size": str(block),
        "cache_dtype": "auto",
        "cache_hit_alignment_tokens": "None",
        "effective_attention_block_size": str(block),
        "enable_mamba_shared_prefix_checkpoint": "False",
        "enable_prefix_caching": "True",
        "engine": "0",
        "gpu_memory_utilization": str(GPU_MEMORY_UTILIZATION),
        "hash_block_size": "None",
        "is_attention_free": "False",
        "kv_cache_dtype_skip_layers": "[]",
        "kv_cache_layout": "None",
        "kv_cache_max_concurrency": str(round(blocks * block / engine.limits.max_model_len, 2)),
        "kv_cache_memory_bytes": str(int(blocks * block * engine.law.model.kv_bytes / engine.law.tensor_parallel)),
        "kv_cache_size_tokens": str(blocks * block),
        "kv_offloading_backend": "native",
        "kv_offloading_size": "None",
        "kv_sharing_fast_prefill": "False",
        "mamba_block_size": "None",
        "mamba_cache_dtype": "auto",
        "mamba_cache_mode": "none",
        "mamba_page_size_padded": "None",
        "mamba_ssm_cache_dtype": "float32",
        "num_cpu_blocks": "None",
        "num_gpu_blocks": str(blocks),
        "num_gpu_blocks_override": "None",
        "prefix_cache_retention_interval": "0",
        "prefix_caching_hash_algo": "sha256",
        "prefix_match_unit": "None",
        "replayssm_buffer_len": "16",
        "skip_page_size_padded": "None",
        "sliding_window": "None",
        "swa_bounded_replay": "True",
        "use_kda_recoverssm": "False",
        "use_replayssm": "False",
        "user_specified_block_size": "False",
    }
    page.gauge(
        "vllm:cache_config_info", "Information of the LLMEngine CacheConfig", [(tuple(sorted(config.items())), 1.0)]
    )


def _sleep_operations(page: Page, engine: Engine) -> None:
    """VLLM begins to expose these with the first operation."""
    counters = engine.counters
    operations = {"sleep": counters.sleeps, "wake": counters.wakes}
    seen: dict[Labels, Histogram] = {
        (("operation", name),): histogram for name, histogram in operations.items() if histogram.count
    }
    waking = engine.state is EngineState.WAKING
    if not seen and not waking:
        return
    page.histogram("vllm:sleep_mode_operation_duration_seconds", "Duration of one sleep-mode operation.", seen)
    page.gauge(
        "vllm:sleep_mode_operations_in_flight",
        "Sleep-mode operations currently awaited.",
        [((("operation", "sleep"),), 0.0), ((("operation", "wake"),), float(waking))],
    )
