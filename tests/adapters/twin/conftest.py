"""The rig as a fixture: one node, one ready pod."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.adapters.twin.rig import NODE, OTHER_POD, POD, Rig, running
from tests.support.twin import a_node, a_pod, engine_facts


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(tmp_path) as rig:
        rig.world.put_node(a_node(address=NODE))
        rig.world.put_pod(a_pod(address=POD))
        without = replace(engine_facts(), served_name="other", sleep_mode=False)
        rig.world.put_pod(a_pod("chat-1", address=OTHER_POD, engine=without))
        yield rig
