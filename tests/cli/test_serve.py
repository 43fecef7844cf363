"""``efface serve`` before a page is shown."""

from __future__ import annotations

import socket
import sys
from types import ModuleType

import pytest
from helpers.cli import call, check_refused

from efface.cli import serve
from efface.cli.serve import check_port
from efface.core.errors import EffaceError


def test_without_gradio_one_line_names_the_cure(capfd, monkeypatch, tmp_path):
    monkeypatch.setattr(serve, "find_spec", lambda _name: None)
    check_refused(call(capfd, "serve", tmp_path), "pip install 'efface[web]'")


def test_a_folder_without_an_erasure_is_refused(capfd, monkeypatch, tmp_path):
    page = ModuleType("efface.web.page")
    monkeypatch.setattr(page, "launch", None, raising=False)
    monkeypatch.setitem(sys.modules, "efface.web.page", page)
    monkeypatch.setattr(serve, "find_spec", lambda _name: object())
    check_refused(call(capfd, "serve", tmp_path), "is not an erasure")


def test_a_port_in_use_is_refused():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(EffaceError, match=f"port {port} is in use"):
            check_port(port)
