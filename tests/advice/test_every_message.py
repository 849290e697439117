"""Every message of the package that says what to do has a test that does it."""

from . import (  # noqa: F401
    test_analysis,
    test_checkpoints,
    test_encoders,
    test_files,
    test_formats,
    test_save_pretrained,
    test_sentence_pieces,
    test_serving,
    test_tasks,
    test_text,
)
from .advice import ROWS
from .messages import collect


def test_every_message_with_advice_has_a_row_and_every_row_a_message():
    messages = collect()
    missing = {place: text for place, text in messages.items() if not any(part in text for part in ROWS)}
    assert not missing, "Add a test with @advice for what these say."
    assert not [part for part in ROWS if not any(part in text for text in messages.values())]


def test_what_counts_as_advice():
    """A known message with a way out is found, and one without is not."""
    advice = list(collect().values())
    assert "To turn pairs into columns: tuple(map(list, zip(*pairs)))." in advice
    assert not [text for text in advice if "Expected `head`" in text]
    assert len(advice) > 100
