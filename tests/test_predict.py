"""A prediction is compared with what the run showed, whenever it is made."""

from typing import Any

import pytest
from IPython.display import DisplayHandle

from rstkit.predict import Prediction, predict

from .builder import data_after_close

ANSWERS = {"a <RST>": lambda trace: bool(trace.resets), "a FIN": lambda trace: not trace.resets}


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What went to the page, in order."""
    bundles: list[dict[str, Any]] = []

    def keep(_: DisplayHandle, bundle: dict[str, Any], **more: Any) -> None:
        assert more == {"raw": True}
        bundles.append(bundle)

    monkeypatch.setattr(DisplayHandle, "display", keep)
    monkeypatch.setattr(DisplayHandle, "update", keep)
    return bundles


def test_the_question_is_there_as_text_too(shown: list[dict[str, Any]]) -> None:
    predict("What <b>comes</b>?", ANSWERS)
    (bundle,) = shown
    assert bundle["text/plain"] == "What <b>comes</b>?\n- a <RST>\n- a FIN"
    assert "application/vnd.jupyter.widget-view+json" in bundle


def test_without_a_choice_the_answer_is_not_given_away_on_the_page(shown: list[dict[str, Any]]) -> None:
    guess = Prediction("What comes?", ANSWERS)
    guess.compare(data_after_close())
    assert shown[-1]["text/html"] == "<p>You have not chosen an answer yet.</p>"
    assert shown[-1]["text/plain"].endswith("The run showed: a <RST>.")


def test_a_choice_made_before_or_after_the_run(shown: list[dict[str, Any]]) -> None:
    guess = Prediction("What comes?", ANSWERS)
    guess._choice.value = "a FIN"
    guess.compare(data_after_close())
    assert shown[-1]["text/html"] == "<p>Not so. You said: a FIN. The run showed: a &lt;RST&gt;.</p>"
    guess._choice.value = "a <RST>"
    assert shown[-1]["text/plain"] == "Right. You said: a <RST>. The run showed: a <RST>."
