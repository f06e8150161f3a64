"""`python -m examples.genesis`."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from httpx import AsyncClient
from sqlalchemy import make_url

from tests.support.backends import Backend
from tests.support.readme import ROOT
from tests.support.zygote import Child, Zygote

README = ROOT / "examples" / "genesis" / "README.md"


def start(zygote: Zygote, home: Path, *arguments: str) -> Child:
    given = {"home": str(home), "arguments": arguments}
    return zygote.spawn("tests.examples.genesis.clients:command", given)


async def test_it_prints_an_address_whose_token_outlives_the_server(
    zygote: Zygote, tmp_path: Path
) -> None:
    tokens, titles = [], []
    for title in ("Salt", "Tin"):
        child = start(zygote, tmp_path)
        address, _, token = child.wait_for("http://").partition("/?token=")
        tokens.append(token)
        headers = {"Authorization": f"Bearer {tokens[0]}"}
        async with AsyncClient(base_url=address, headers=headers, timeout=60) as http:
            assert (await http.post("/api/flows", json={"title": title})).status_code == 201
            titles.append(
                [each["title"] for each in (await http.get("/api/flows")).json()["items"]]
            )
        child.kill()
        await asyncio.to_thread(child.wait)

    assert titles == [["Salt"], ["Tin", "Salt"]]
    assert (tmp_path / ".genesis" / "secret").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("database", ["sqlite", "postgresql", "mariadb"], indirect=True)
async def test_the_readme_s_commands_start_it_on_each_database(
    database: Backend, zygote: Zygote, tmp_path: Path
) -> None:
    own = make_url(database.async_url)
    commands = re.findall("`python -m examples.genesis(?: --url ([^`]+))?`", README.read_text())
    drivers = ["sqlite" if not url else make_url(url).drivername for url in commands]
    assert database.name in drivers
    url = own.set(drivername=database.name).render_as_string(hide_password=False)
    child = start(zygote, tmp_path, *([] if database.name == "sqlite" else ["--url", url]))

    async with AsyncClient(follow_redirects=True, timeout=60, trust_env=False) as http:
        page = await http.get(child.wait_for("http://"))

    assert page.status_code == 200
    assert "Your novels" in page.text
    child.kill()
    await asyncio.to_thread(child.wait)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--secret=short"], "less than 32 bytes"),
        (["--host=192.0.2.1"], "assign"),
    ],
)
def test_what_it_cannot_use_is_said_in_a_line(
    zygote: Zygote, tmp_path: Path, arguments: list[str], said: str
) -> None:
    child = start(zygote, tmp_path, *arguments)

    assert child.wait() == 2
    assert said in child.text
    assert "Traceback" not in child.text
