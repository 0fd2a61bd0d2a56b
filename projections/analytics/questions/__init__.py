"""The questions that can be asked, by name.  Whoever asks gives parameters; SQL never comes from outside."""

from __future__ import annotations

from typing import Any

from domain.discover import collect
from projections.analytics import questions
from projections.analytics.questions.base import Question


def found_questions() -> dict[str, Question[Any]]:
    """Every question of the program, by name."""
    return {question.name: question for question in collect(questions, Question)}
