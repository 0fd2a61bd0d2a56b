"""Sessions: a piece of work (Session) holds agent conversations (LlmSession), which hold subagents (SubagentSession)."""
