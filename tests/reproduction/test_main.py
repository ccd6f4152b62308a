"""``python -m reproduction``: what is given wrong gets one message and status 2, no trace."""

from __future__ import annotations

import pytest

from reproduction.__main__ import main

pytestmark = pytest.mark.usefixtures("here")
PROGRAM = "python -m reproduction"


def test_run_gets_what_was_given(monkeypatch):
    calls = []
    monkeypatch.setattr("reproduction.run.reproduce", lambda **options: calls.append(options))
    main(["run", "--only", "03", "--seed", "5", "--limit", "2", "--in-place"])
    main(["run"])
    assert calls == [{"only": ["03"], "seed": 5, "limit": 2, "in_place": True}, {}]


# ---------------------------------------------------------------- help and names


@pytest.mark.parametrize("command", [[], ["runs"], ["train", "densefuse", "a"]])
def test_usage(capsys, command):
    with pytest.raises(SystemExit) as caught:
        main(command)
    assert caught.value.code == 2
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "--only", "99"], "unknown notebook '99'"),
        (["run", "--device", "nonsense"], "device 'nonsense'"),
        (["weights", "fetch", "yolov5x"], "Did you mean 'yolov5"),
    ],
)
def test_bad_name(refused, arguments, words):
    assert words in refused(*arguments)


def test_weights_of_detectors_are_among_them(done):
    assert {"yolov5n", "densefuse_tf_1e2"} <= set(done("weights").split())
