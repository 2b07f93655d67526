"""`report.html` and `report.json` of a scene, from what of it is done."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path

from recon4d.errors import Recon4dError
from recon4d.formats.text_files import write_text
from recon4d.progress import Progress, Silent
from recon4d.stages.report_facts import report_facts
from recon4d.view.summary import summary_line
from recon4d.workspace import Workspace

VERSION = 1  # raised when the same scene gives another page
PAGE, NUMBERS = "report.html", "report.json"
LOG = logging.getLogger(__name__)


def write_report(workspace: Workspace, stopped: str | None = None, anew: bool = False, pictures: bool = True) -> Path:
    """Write `report.html` and `report.json` into the scene's folder, unless they are up to date.

    Args:
        stopped: why the run that just ended came to no end; None where it did.
        anew: write them in any case. What is known of a run that stopped stays, while nothing else has changed.
        pictures: False for a page that is there in a moment, and says how to make the pictures.

    Returns:
        Path of the page.

    Raises:
        OSError: the folder cannot be written.
    """
    page, numbers = workspace.root / PAGE, workspace.root / NUMBERS
    facts = report_facts(workspace)
    key, before = _key(facts), _before(numbers)
    if anew and before.get("key") == key:
        stopped = before.get("stopped")
    elif page.is_file() and before.get("key") == key and (before.get("stopped") == stopped or not pictures):
        return page  # nothing was lost by a stop that changed nothing, and pictures are worth more than its mention
    from recon4d.view.report_page import report_page
    from recon4d.view.report_pictures import gather

    read_by_align = [item["unit"] for item in facts["stages"] if item["stage"] == "depth" and item["key"]]
    shown = [unit for unit in read_by_align if unit not in _idle(facts)]
    gallery = gather(workspace, shown) if pictures else None
    write_text(page, report_page(facts, gallery, _said(workspace, facts), stopped))
    written = datetime.now(timezone.utc).isoformat(timespec="seconds")
    facts |= {"stopped": stopped, "written": written, "key": key}
    write_text(numbers, json.dumps(facts, indent=1, allow_nan=False) + "\n")
    return page


@contextmanager
def reported(workspace: Workspace, progress: Progress | None = None) -> Iterator[None]:
    """Leave an up-to-date report behind, also when what is done in the block stops with an error or by Ctrl-C.

    Who presses Ctrl-C gets it at once, without pictures. The result of the block never depends on it: what keeps the
    report from being written is said, and a bug in it is logged with its traceback.
    """
    progress = progress or Silent()
    try:
        yield
    except KeyboardInterrupt:
        with suppress(OSError):
            _tried(workspace, progress, "stopped by Ctrl-C", pictures=False)
        raise
    except BrokenPipeError:
        raise  # who read what the run says has left; that is no news about the scene
    except Exception as error:
        told = str(error) if isinstance(error, Recon4dError) else f"{type(error).__name__}: {error}".removesuffix(": ")
        with suppress(KeyboardInterrupt, OSError):  # the error itself is what must be heard of
            _tried(workspace, progress, told)
        raise
    _tried(workspace, progress, None)


def _tried(workspace: Workspace, progress: Progress, stopped: str | None, pictures: bool = True) -> None:
    try:
        progress.say(f"report: {write_report(workspace, stopped, pictures=pictures)}")
    except (Recon4dError, OSError) as error:
        progress.say(f"warning: no report was written ({error}); the results are not touched by that")
    except Exception as error:  # a bug in the page must not cost hours of work
        LOG.exception("the report could not be made")
        said = f"{type(error).__name__}: {error}"
        progress.say(f"warning: no report was written, because of a bug ({said}); the results are not touched by that")


def _key(facts: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps([VERSION, facts], sort_keys=True).encode()).hexdigest()


def _before(path: Path) -> dict[str, object]:
    """The report that is there; empty where none can be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _idle(facts: dict[str, object]) -> set[str]:
    return {item["unit"] for item in facts["stages"] if item["state"] == "not used"}


def _said(workspace: Workspace, facts: dict[str, object]) -> dict[str, str]:
    """Unit -> its key numbers in words."""
    records = {item["unit"]: workspace.record(item["unit"]) for item in facts["stages"]}
    return {unit: summary_line(record) for unit, record in records.items() if record is not None}
