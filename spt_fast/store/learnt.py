"""What a cell has learnt: its vectors or its adapter by step, what the vectors lie next to, and what they do."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from spt_fast.errors import DamagedError, StoreError, UnstorableError, boundary
from spt_fast.plan.cell import Cell
from spt_fast.prompts.lora import Learnt, LoraAdapter, adapters_as_bytes, load_adapters
from spt_fast.prompts.meaning import Meaning, Probe, as_json, meaning_of, probe_of
from spt_fast.prompts.soft_prompt import SoftPrompt, load_steps, steps_as_bytes
from spt_fast.storage.base import Storage
from spt_fast.store import curve as curves
from spt_fast.store.damage import UNREADABLE, Damage, said
from spt_fast.store.layout import ADAPTER, CURVE, LEARNT, MEANING, PROBE, PROMPT, encoded, of_cell, sha256
from spt_fast.types import TrainingStep

_T = TypeVar("_T")
_NOT_KEPT = "what was learnt cannot be kept"


class LearntFiles:
    """What the cells of one run folder have learnt."""

    def __init__(self, storage: Storage, damage: Damage) -> None:
        self._storage, self._damage = storage, damage
        self._hashes: dict[str, str] = {}
        """Of files that this process has written."""

    def among(self, keys: Collection[str]) -> set[str]:
        """Those of these cells that have learnt something, of all steps or of some."""
        return set(self._storage.versions("cells", LEARNT)) & set(keys)

    def of(self, cell: Cell) -> Mapping[int, Learnt] | None:
        """What a cell has learnt by step, or None where it is not all there yet.

        Raises:
            DamagedError: the file is damaged.
        """
        if cell.steps == (None,):
            return None
        found: Mapping[int, Learnt] = self.soft_prompts(cell.key) or self.adapters(cell.key)
        return found if set(found) == set(cell.steps) else None

    def soft_prompts(self, key: str) -> dict[int, SoftPrompt]:
        """The soft prompts of a cell by step, those that there are; none where it has none.

        Raises:
            DamagedError: the file is damaged.
        """

        def load(file: Path) -> dict[int, SoftPrompt]:
            return {step: prompt for step, prompt in load_steps(file).items() if step is not None}

        return self._load(of_cell(key, PROMPT), load)

    def adapters(self, key: str) -> dict[int, LoraAdapter]:
        """The LoRA adapters of a cell by step; none where it has none.

        Raises:
            DamagedError: the file is damaged.
        """
        return self._load(of_cell(key, ADAPTER), load_adapters)

    def _load(self, path: str, load: Callable[[Path], dict[int, _T]]) -> dict[int, _T]:
        try:
            with self._storage.local(path) as file:
                return load(file)
        except FileNotFoundError:
            return {}
        except (*UNREADABLE, StoreError) as e:
            raise self._damage.unreadable(path, e) from None

    def losses(self, key: str) -> dict[int, float]:
        """Training loss by step, in nats a token; empty where nothing was trained, or the curve cannot be read."""
        with suppress(OSError, ValueError):
            return curves.losses(self._storage.read(of_cell(key, CURVE)).decode("utf-8"))
        return {}

    def put(
        self, cell: Cell, steps: Mapping[int, Learnt], curve: Sequence[TrainingStep], meaning: Meaning | None = None
    ) -> None:
        """Keep what was trained, so that it is not trained again.

        Raises:
            UnstorableError: it is not what a worker should say; then nothing is written.
            StoreError: it cannot be written.
        """
        with boundary(UnstorableError, _NOT_KEPT):
            lies_next_to = None if meaning is None else encoded(as_json(meaning))
            curve_csv = curves.as_csv(curve)
            name, data = _as_file(steps)
        if lies_next_to is not None:
            self._storage.write(of_cell(cell.key, MEANING), lies_next_to)
        self._write(of_cell(cell.key, CURVE), curve_csv)
        self._write(of_cell(cell.key, name), data)

    def share(self, source: Cell, cell: Cell) -> None:
        """Give a judged cell what was learnt by the cell whose completions it rules on, and the curve."""
        for name in (*LEARNT, CURVE, MEANING):
            with suppress(FileNotFoundError):
                self._write(of_cell(cell.key, name), self._storage.read(of_cell(source.key, name)))

    def forget(self, key: str) -> None:
        """Have a cell learn anew: what it has learnt is damaged."""
        for name in LEARNT:
            self._storage.remove(of_cell(key, name))

    def hashes(self, key: str) -> dict[str, str]:
        """SHA-256 of each file of what a cell has learnt, by this process or an earlier one."""
        found = {}
        for name in LEARNT:
            with suppress(FileNotFoundError):
                path = of_cell(key, name)
                found[name] = self._hashes.get(path) or sha256(self._storage.read(path))
        return found

    def _write(self, path: str, data: bytes) -> None:
        self._storage.write(path, data)
        self._hashes[path] = sha256(data)

    # what is known of the vectors

    def meaning(self, key: str) -> Meaning | None:
        """What a cell's vectors lie next to; None where nobody has looked, or at other vectors.

        Raises:
            DamagedError: the file is damaged.
        """
        return self._told(key, MEANING, meaning_of)

    def probe(self, key: str) -> Probe | None:
        """What `inspect` has asked of a cell's vectors; None where it has not.

        Raises:
            DamagedError: the file is damaged.
        """
        return self._told(key, PROBE, probe_of)

    def _told(self, key: str, name: str, read: Callable[[str], _T]) -> _T | None:
        path = of_cell(key, name)
        try:
            return read(self._storage.read(path).decode())
        except FileNotFoundError:
            return None
        except UNREADABLE as e:
            place = self._storage.name(path)
            raise DamagedError(f"{place}: cannot be read ({said(e)}); delete it, and inspect the run again") from None

    def put_meaning(self, key: str, meaning: Meaning) -> None:
        """Keep what a cell's vectors lie next to."""
        self._storage.write(of_cell(key, MEANING), encoded(as_json(meaning)))

    def put_probe(self, key: str, probe: Probe) -> None:
        """Keep what was asked of a cell's vectors."""
        self._storage.write(of_cell(key, PROBE), encoded(as_json(probe)))


def _as_file(steps: Mapping[int, Learnt]) -> tuple[str, bytes]:
    """Name and content of the file that holds what was learnt.

    Raises:
        UnstorableError: it is neither vectors nor adapters.
    """
    adapters = {step: learnt for step, learnt in steps.items() if isinstance(learnt, LoraAdapter)}
    prompts = {step: learnt for step, learnt in steps.items() if isinstance(learnt, SoftPrompt)}
    if len(adapters or prompts) != len(steps):
        kinds = ", ".join(sorted({type(each).__name__ for each in steps.values()}))
        raise UnstorableError(f"{_NOT_KEPT}: it is {kinds}, not vectors or an adapter a step")
    return (ADAPTER, adapters_as_bytes(adapters)) if adapters else (PROMPT, steps_as_bytes(prompts))
