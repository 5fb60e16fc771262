"""What a server can ask its clients between training and after it: one file a question.

A file holds both halves side by side: what is asked, what a client answers, how the server checks
the answer, and how answers are pooled. It ends in no step outside of this folder: the app's clients
register every ``question = Question(...)`` that they find here, and :func:`questions.ask.ask` sends
any :class:`Request`.
"""

from functools import cache

from foundation.members import QUESTIONS

from .question import Question, Request, Site

__all__ = ["Question", "Request", "Site", "questions"]


@cache
def questions() -> dict[str, Question]:
    """Return all questions by name, in alphabetical order."""
    return {name: QUESTIONS.load(name, Question) for name in QUESTIONS.ours}
