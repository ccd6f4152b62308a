"""What commands share: how words become options, tables as they are printed."""

from __future__ import annotations

import pandas as pd

from fusionlib import Execution
from fusionlib.__main__ import EXECUTION, _execution
from fusionlib.commands import print_frame, program


def test_tables_as_they_are_printed(capsys):
    """Text begins and numbers end below each other; long text is cut."""
    frame = pd.DataFrame({"name": ["a", "long one"], "n": [5, 12345], "found": ["yes", "no"]})
    print_frame(frame)
    assert capsys.readouterr().out.splitlines() == [
        "name      n    found",
        "a            5 yes",
        "long one 12345 no",
    ]
    assert list(frame["name"]) == ["a", "long one"]
    frame = pd.DataFrame({"path": ["0123456789"], "is": ["0123456"]})
    print_frame(frame, width=7)
    assert capsys.readouterr().out == "path    is\n0123... 0123456\n"
    print_frame(frame, width=None)
    assert "0123456789" in capsys.readouterr().out
    print_frame(pd.DataFrame({"id": [], "n": []}).astype({"id": "str"}))
    assert "id" in capsys.readouterr().out


def test_how_networks_are_run():
    """What is not given is as the library has it."""

    def asked(*words):
        parser, _ = program("x", "", {"fuse": (print, EXECUTION)})
        return _execution(parser.parse_args(["fuse", *words]))

    assert asked() == Execution()
    ways = ("--precision", "bfloat16", "--tile", "64", "--overlap", "8", "--threads", "2")
    expected = Execution(precision="bfloat16", tile=64, overlap=8, channels_last=True, threads=2)
    assert asked(*ways, "--channels-last") == expected
