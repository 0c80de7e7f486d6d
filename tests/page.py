"""What a panel publishes, kept as a notebook would show it."""

from typing import Any

from IPython.core.displaypub import DisplayPublisher

PLOTLY = "application/vnd.plotly.v1+json"


class Page(DisplayPublisher):
    """What a notebook would show: outputs by their display id, in order."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.outputs: dict[str, dict[str, Any]] = {}

    def publish(self, data: Any, *_: Any, transient: Any = None, update: bool = False, **__: Any) -> None:
        name = (transient or {}).get("display_id", f"unnamed {len(self.outputs)}")
        assert (name in self.outputs) == update
        self.outputs[name] = data

    @property
    def figures(self) -> list[dict[str, Any]]:
        return [output for output in self.outputs.values() if PLOTLY in output]

    @property
    def card(self) -> dict[str, Any]:
        return list(self.outputs.values())[-1]
