"""Short prompt embeds inside vLLM's own processes: the soft rows `[P, H]` travel, and nothing for the positions behind them.

vLLM wants a row for each position of a prompt, also where it then takes the token's own embedding (`is_token_ids`). At H = 4096
and 300 tokens that is 2.4 MB to send and to hash for each request, of which 80 kB say anything. Its workers already
stop at the end of the rows that there are; three places before them must be told:

* the length of a request is that of its token ids;
* blocks of the prefix cache past the rows are known by their tokens, and by the blocks in front of them; those in the rows
  by the salt that we give a request, which is a hash of the rows, so that nothing is hashed again for each request;
* positions past the rows, and past the mask that comes with them, are tokens.

Whole-length embeds are taken as before. This is an entry point of the group `vllm.general_plugins`, which every process of
vLLM loads, anybody's on this machine; so it does nothing unless `SWITCH` is set, as our engine sets it for its own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import wraps
from importlib import metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

SWITCH = "SPT_FAST_SHORT_EMBEDS"
"""The environment variable that turns the plug-in on ("1")."""
GROUP, NAME = "vllm.general_plugins", "spt_fast_short_embeds"
"""Where vLLM finds the plug-in."""
KNOWN = "0.32."
"""The versions of vLLM whose source this was written against begin so."""

_LENGTH = "length_from_prompt_token_ids_or_embeds"
_MARK = "_spt_fast_short_embeds"


def register() -> None:
    """What vLLM calls in each of its processes; as often as it likes."""
    if os.environ.get(SWITCH) == "1" and missing() is None:
        install()


def missing() -> str | None:
    """Why short embeds cannot be used in this environment; None: they can be tried.

    What it asks is the same in all processes of an engine.
    """
    import vllm

    version = vllm.__version__
    if not version.startswith(KNOWN):
        return f"vLLM is {version}, and they are written for {KNOWN}*"
    if NAME not in {found.name for found in metadata.entry_points(group=GROUP)}:
        return f"the entry point {NAME} is not installed; `make install`"
    allowed = os.environ.get("VLLM_PLUGINS")
    if allowed is not None and NAME not in allowed.split(","):
        return f"VLLM_PLUGINS leaves {NAME} out"
    return None


def install() -> str | None:
    """Change vLLM in this process, and return None; or why it cannot be changed, and then nothing is. Twice is no error."""
    try:
        import vllm.utils
        from vllm.v1 import request
        from vllm.v1.core import kv_cache_utils

        original = getattr(vllm.utils, _LENGTH)
        keys, init = kv_cache_utils._gen_prompt_embeds_extra_hash_keys, request.Request.__init__
    except (ImportError, AttributeError) as e:
        return f"vLLM has not what they change: {e}"
    if hasattr(init, _MARK):
        return None
    # Modules hold it under its name. Those that are imported later find ours where they look for it.
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "vllm" and vars(module).get(_LENGTH) is original:
            setattr(module, _LENGTH, length)
    kv_cache_utils._gen_prompt_embeds_extra_hash_keys = _keys_of_rows(keys)
    request.Request.__init__ = _with_whole_mask(init)
    return None


def length(prompt_token_ids: list[int] | None, prompt_embeds: torch.Tensor | None) -> int:
    """Positions of a prompt: `T` of its ids `[T]`, or of its embeds `[T, H]` where there are no ids.

    Raises:
        ValueError: there is neither, or more rows than ids.
    """
    if prompt_token_ids is None:
        if prompt_embeds is None:
            raise ValueError("Neither prompt_token_ids nor prompt_embeds were defined.")
        return len(prompt_embeds)
    if prompt_embeds is not None and len(prompt_embeds) > len(prompt_token_ids):
        raise ValueError(f"{len(prompt_embeds)} rows of prompt embeds for {len(prompt_token_ids)} token ids")
    return len(prompt_token_ids)


def _keys_of_rows(original: Callable[..., Any]) -> Callable[..., Any]:
    """vLLM's extra keys of a block `[start, end)`: a hash of its rows, unless something else tells them apart already."""

    @wraps(original)
    def keys(request: Any, start: int, end: int) -> Any:
        rows = request.prompt_embeds
        if rows is None or start >= len(rows):
            return []
        if request.cache_salt and len(rows) < request.num_prompt_tokens:
            return []  # our salt is the hash of the rows, and the first block's key, on which all others rest, has it
        return original(request, start, end)

    return keys


def _with_whole_mask(original: Callable[..., None]) -> Callable[..., None]:
    """`Request.__init__`, with the mask made as long as the prompt."""

    @wraps(original)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        ids, rows, mask = (kwargs.get(name) for name in ("prompt_token_ids", "prompt_embeds", "prompt_is_token_ids"))
        if ids is not None and rows is not None and len(rows) < len(ids):
            mask = [False] * len(rows) if mask is None else mask
            kwargs["prompt_is_token_ids"] = [*mask, *[True] * (len(ids) - len(mask))]
        original(self, *args, **kwargs)

    setattr(init, _MARK, True)
    return init
