"""``tars.tarsregistry.QueryObj``: the six look-ups of QueryF. Its four other functions answer -3, as everywhere."""

from __future__ import annotations

from registry.answers import Answers
from registry.routing.select import Lookup
from tars_protocol.dispatch import Servant
from tars_protocol.interfaces.query import QUERY


def query_servant(answers: Answers) -> Servant:
    """The servant that answers from ``answers``."""
    return Servant(QUERY, dict.fromkeys(Lookup, answers.answer))
