"""What is wrong with a model's folder, as far as its JSON files and the headers of its weights tell. Loads nothing.

A sentence each, which names the file and the fix. Whatever is not surely wrong passes: what loads a model says the rest.
"""

from __future__ import annotations

from pathlib import Path

from spt_fast.errors import ModelError
from spt_fast.models.faults.config import check_config
from spt_fast.models.faults.folder import check_folder
from spt_fast.models.faults.tokenizer import check_tokenizer
from spt_fast.models.faults.weights import check_weights


def fault_of(folder: Path, *, trust_remote_code: bool = False, whole: bool = True) -> str | None:
    """The first thing that is wrong with a model's folder, in a sentence; None: nothing that can be known without loading it.

    Args:
        folder: where its files are.
        trust_remote_code: whether the Python code that it brings may run.
        whole: all of its files must be there; False for what a cache holds of a model of the Hub.
    """
    try:
        if whole:
            check_folder(folder)
        elif not (folder / "config.json").exists():
            return None
        config = check_config(folder, trust_remote_code=trust_remote_code, whole=whole)
        check_tokenizer(folder, config, whole=whole)
        check_weights(folder, config, whole=whole)
    except ModelError as e:
        return str(e)
    except OSError as e:
        return f"{e.filename or folder}: cannot be read: {e.strerror or e}"
    return None
