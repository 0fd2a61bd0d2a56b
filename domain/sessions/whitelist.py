"""Which fields of an agent's records are structure: everything that is not named here is sealed, known to us or not.

A whitelist maps a field to `LEAF` (an identifier, enumeration value, number or flag), to a whitelist of its own (an object)
to a tuple of one whitelist (a list), or to `Each` (an object keyed by names).  Even a named field is only structure while its value looks like one: text must be
short and printable.  Paths, prompts, tool inputs and outputs, titles, error messages and people are not structure.
"""

from __future__ import annotations

from typing import Any, Final

LEAF: Final = True
Whitelist = dict[str, Any]


class Each:
    """The rule of an object whose keys are names of things (models): every value is divided by the same whitelist."""

    __slots__ = ("rule",)

    def __init__(self, rule: Whitelist) -> None:
        self.rule = rule


def leaves(names: str) -> Whitelist:
    """A whitelist of plain fields, given as words."""
    return dict.fromkeys(names.split(), LEAF)


# What a client that reduced a record sends along instead of the text: what the splitter would have computed from it.
DERIVED: Final[Whitelist] = {
    **leaves("level prompt_chars answer_chars lines_added lines_removed exit_code error_kind titled local"),
    "failed": (LEAF,),
}

USAGE: Final[Whitelist] = {
    **leaves(
        "input_tokens output_tokens cache_creation_input_tokens cache_read_input_tokens service_tier speed inference_geo "
        "cached_input_tokens cache_write_input_tokens reasoning_output_tokens total_tokens prompt_tokens completion_tokens"
    ),
    "output_tokens_details": leaves("thinking_tokens"),
    "cache_creation": leaves("ephemeral_5m_input_tokens ephemeral_1h_input_tokens"),
    "server_tool_use": leaves("web_search_requests web_fetch_requests"),
}

AGENT_RESULT: Final[Whitelist] = {
    **leaves(
        "status agentId agentType isAsync resolvedModel totalDurationMs totalTokens totalToolUseCount interrupted type"
    ),
    "usage": USAGE,
    "toolStats": leaves("readCount searchCount bashCount editFileCount otherToolCount linesAdded linesRemoved"),
}

HOOK: Final[Whitelist] = {
    **leaves(
        "prompt_id turn_id agent_id agent_type permission_mode source model tool_name tool_use_id message_id task_id "
        "duration_ms is_interrupt stop_hook_active reason trigger index final expansion_type command_name command_source "
        "memory_type load_reason notification_type event from_model to_model requested_model context_tokens "
        "prompt_cache_warm cache_ttl estimated_cache_write_usd pricing seconds_since_last_response "
        "prompt_cache_likely_expired mcp_server_name mode action elicitation_id timestamp exit_code "
        "pid cpu_percent memory_bytes"
    ),
    "effort": leaves("level"),
    "mcp_server": leaves("name source"),
    "tool_response": AGENT_RESULT,
    "tool_calls": (leaves("tool_name tool_use_id"),),
    "background_tasks": (leaves("id type status agent_type"),),
    "session_crons": (leaves("id schedule recurring"),),
    "llm_response": {"usageMetadata": leaves("promptTokenCount candidatesTokenCount totalTokenCount")},
}

_CODEX_USAGE_INFO: Final[Whitelist] = {
    "total_token_usage": USAGE,
    "last_token_usage": USAGE,
    "model_context_window": LEAF,
}
CODEX_PAYLOAD: Final[Whitelist] = {
    **leaves(
        "type id turn_id root_turn_id thread_id session_id call_id name status role model cli_version originator source "
        "model_provider response_id duration_ms time_to_first_token_ms started_at completed_at started_at_ms "
        "completed_at_ms reason approval_policy timestamp thread_source num_turns forked_from_id"
    ),
    "usage": USAGE,
    "turn_token_usage": USAGE,
    "thread_token_usage": USAGE,
    "info": _CODEX_USAGE_INFO,
    "git": leaves("branch commit_hash"),
    "item": {
        **leaves("type id status exit_code source server tool"),
        "duration": leaves("secs nanos"),
    },
    "thread_settings": leaves("model model_provider_id approval_policy"),
    "internal_chat_message_metadata_passthrough": {"turn_id": LEAF, "create_time": LEAF, "content_item_kinds": (LEAF,)},
}

TRANSCRIPT: Final[Whitelist] = {
    **leaves(
        "uuid parentUuid logicalParentUuid sessionId timestamp type subtype isSidechain agentId promptId gitBranch version "
        "entrypoint userType isMeta isApiErrorMessage apiErrorStatus requestId requestRef requestedModel effort "
        "perTurnEffort promptSource turnOrigin permissionMode apiBlockIndex sourceToolAssistantUUID level isCompactSummary "
        "isVisibleInTranscriptOnly attributionAgent attributionSkill madeBy durationMs hookCount preventedContinuation operation toolUseID "
        "toolUseId parentToolUseID parent_tool_use_id messageId leafUuid requestSessionId promptCacheRequested toolInputStreamMs sandboxed "
        "totalCostUSD totalAPIDuration totalAPIDurationWithoutRetries totalToolDuration totalLinesAdded totalLinesRemoved "
        "totalDuration startTime hasUnknownModelCost costUSD querySource shapeHash hash id ordinal "
        "agentType isBuiltIn spawnDepth requestShape model finished session_id num_turns total_cost_usd is_error role kind"
    ),
    "forkedFrom": leaves("sessionId messageUuid"),
    "compactMetadata": leaves("trigger preTokens postTokens durationMs"),
    "turnPosition": leaves("promptIndex turnIndex"),
    "permissionDecision": leaves("decision source reasonType"),
    "message": {
        **leaves("id type role model stop_reason"),
        "usage": USAGE,
        "content": (leaves("type id name tool_use_id is_error"),),
    },
    "usage": USAGE,
    "tokens": leaves("input output cached thoughts tool total"),
    "toolUseResult": AGENT_RESULT,
    "attachment": {
        **leaves("type toolUseID hookEvent exitCode durationMs skillCount"),
        "identity": leaves("modelId"),
    },
    "modelUsage": Each(
        leaves(
            "inputTokens outputTokens thinkingTokens cacheReadInputTokens cacheCreationInputTokens costUSD webSearchRequests "
            "cacheCreationEphemeral5mInputTokens cacheCreationEphemeral1hInputTokens"
        )
    ),
    "payload": CODEX_PAYLOAD,
}

RESOURCE: Final[Whitelist] = leaves(
    "service.name service.version team.id crewkit.session_id crewkit.variant repo branch os.type host.arch "
    "telemetry.sdk.language deployment.environment"
)

ATTRIBUTES: Final[Whitelist] = leaves(
    # every agent
    "event.name event.timestamp event.sequence event.kind session.id conversation.id prompt.id prompt_id app.version "
    "app.entrypoint terminal.type model slug request_id client_request_id message.uuid prompt_length duration_ms ttft_ms "
    "tool_name tool_use_id call_id success decision source status_code error_type attempt agent_id agent.name agent_type "
    "team.id crewkit.session_id crewkit.variant repo branch type effort speed language start_type "
    # Claude Code
    "input_tokens output_tokens cache_read_tokens cache_creation_tokens cache_creation_5m_tokens cache_creation_1h_tokens "
    "cost_usd cost_usd_micros query_source anthropic.provider anthropic.custom_base_url response_length tool_source "
    "permission_mode tool_input_size_bytes tool_result_size_bytes hook_event hook_type hook_source hook_name num_hooks "
    "num_success num_blocking num_non_blocking_error num_cancelled total_duration_ms stdout_chars managed_only safe_mode "
    "total_tokens total_tool_uses final_model model_swapped is_async is_built_in agent.source skill.name skill.source "
    "plugin.name marketplace.name mcp_server.name mcp_tool.name invocation_trigger command_name command_source pre_tokens "
    "post_tokens trigger from_mode to_mode span.type stop_reason interaction.sequence query_source_safe "
    "llm_request.context first_content_ms user_prompt_length interaction.duration_ms service_tier "
    # Codex
    "input_token_count output_token_count cached_token_count cache_write_token_count reasoning_token_count "
    "tool_token_count model_reasoning_effort originator provider_name approval_policy sandbox_policy tool_namespace "
    "tool_result_seq output_truncated startup.phase startup.status http.response.status_code endpoint "
    # Gemini
    "cached_content_token_count thoughts_token_count total_token_count function_name tool_type auth_type tokens_before "
    "tokens_after finish_reasons interactive role "
    # OpenTelemetry's own names for generative AI
    "gen_ai.system gen_ai.provider.name gen_ai.operation.name gen_ai.request.model gen_ai.response.model "
    "gen_ai.response.id gen_ai.conversation.id gen_ai.agent.id gen_ai.agent.name gen_ai.tool.name gen_ai.tool.call.id "
    "gen_ai.tool.type gen_ai.usage.input_tokens gen_ai.usage.output_tokens gen_ai.usage.cache_read.input_tokens "
    "gen_ai.usage.cache_creation.input_tokens gen_ai.token.type error.type"
)

# Names that the level `counts` leaves out, at any depth.
NAMES: Final = frozenset(
    leaves(
        "tool_name name command_name command_source mcp_server mcp_server_name toolStats server tool schedule gitBranch branch "
        "git attributionAgent attributionSkill querySource originator"
    )
)
