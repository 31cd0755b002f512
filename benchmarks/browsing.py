"""A reader's browser without a screen: logs in, and asks the page's server for what a browser asks it for."""

import json
import secrets
from collections.abc import Iterator
from typing import Any

import httpx
from gradio_client.utils import apply_diff

PATIENCE_S = 600
Event = dict[str, Any]


class Tab:
    """The page, open in the browser of a reader who logs in.

    Args:
        url: the server's address.
        name, password: who he is.
    """

    def __init__(self, url: str, name: str, password: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=PATIENCE_S, trust_env=False)
        form = self._client.get("/login").text.split('name="form" value="')[1].split('"')[0]
        entered = self._client.post("/login", data={"form": form, "name": name, "password": password})
        assert entered.status_code == 303, f"{name} was not let in: {entered.text[:200]}"
        config = self._client.get("/config").raise_for_status().json()
        self._session = secrets.token_hex(6)
        self._components: dict[int, dict[str, Any]] = {each["id"]: each for each in config["components"]}
        self._names = {name: key for key, each in self._components.items() if (name := each["props"].get("elem_id"))}
        self._events: list[Event] = [event for event in config["dependencies"] if event["backend_fn"]]

    def shown(self, name: str) -> Any:
        """What the component with this `elem_id` holds."""
        return self._components[self._names[name]]["props"].get("value")

    def fill(self, name: str, value: Any) -> None:
        """Put a value into a component."""
        self._components[self._names[name]]["props"]["value"] = value

    def choose(self) -> None:
        """On every finding that the detector knows, choose the first verdict that is offered."""
        for each in self._components.values():
            if each["props"].get("elem_id") != "marked" and "choice" in (each["props"].get("elem_classes") or []):
                each["props"]["value"] = each["props"]["choices"][0][1]

    def press(self, name: str) -> None:
        """Click a button, and wait until the server has done what it stands for."""
        for event in self._events:
            if [self._names[name], "click"] in event["targets"]:
                for _ in self._ask(event):
                    pass

    def join(self, name: str) -> None:
        """Click a button, and wait for nothing."""
        for event in self._events:
            if [self._names[name], "click"] in event["targets"]:
                self._join(event)

    def follow(self, name: str) -> Iterator[None]:
        """What the page asks for by itself once `press` is answered; yields whenever something else is shown."""
        pressed = [event["id"] for event in self._events if [self._names[name], "click"] in event["targets"]]
        for event in self._events:
            if event["trigger_after"] in pressed:
                yield from self._ask(event)

    def _ask(self, event: Event) -> Iterator[None]:
        """Send an event and take in what is answered, as Gradio's JavaScript client does; yields after each part."""
        joined = self._join(event)
        answer: Any = None
        where = {"session_hash": self._session}
        with self._client.stream("GET", "/gradio_api/queue/data", params=where) as stream:
            stream.raise_for_status()
            for line in stream.iter_lines():
                said = json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else {}
                if said.get("event_id") != joined["event_id"]:
                    continue
                if said["msg"] == "process_generating" and said["success"]:
                    given = said["output"]["data"]
                    answer = given if answer is None else [
                        apply_diff(old, diff) for old, diff in zip(answer, given, strict=True)
                    ]  # fmt: skip
                    self._take(event, answer)
                    yield
                elif said["msg"] == "process_completed":
                    assert said["success"], said
                    if answer is None:
                        self._take(event, said["output"]["data"])
                        yield

    def _join(self, event: Event) -> dict[str, Any]:
        """Send an event."""
        data = [self._given(self._components[number]) for number in event["inputs"]]
        asked = {"session_hash": self._session, "fn_index": event["id"], "data": data, "event_data": None,
                 "trigger_id": event["targets"][0][0] if event["targets"] else None}  # fmt: skip
        joined: dict[str, Any] = self._client.post("/gradio_api/queue/join", json=asked).raise_for_status().json()
        return joined

    def _given(self, component: dict[str, Any]) -> Any:
        return None if component["type"] == "state" else component["props"].get("value")

    def _take(self, event: Event, answer: list[Any]) -> None:
        for number, value in zip(event["outputs"], answer, strict=True):
            props = self._components[number]["props"]
            if isinstance(value, dict) and value.get("__type__") == "update":
                props |= {name: each for name, each in value.items() if name != "__type__"}
            else:
                props["value"] = value
