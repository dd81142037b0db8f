"""Serve Alibaba Model Studio's speech synthesis over WebSocket: tasks one after the other on one connection.

As documented on "CosyVoice WebSocket API" (help.aliyun.com/zh/model-studio/cosyvoice-websocket-api) and as its Python
SDK speaks it.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from cosyclient.emulator.apis.alibaba.model_studio_request import CODES, Failure, denial, read_order
from cosyclient.emulator.apis.alibaba.model_studio_task import Task
from cosyclient.emulator.apis.websocket import Gone, Visit, routes
from cosyclient.emulator.core.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.routing import BaseRoute
    from starlette.websockets import WebSocket

    from cosyclient.emulator.core.service import Service

PATH = "/api-ws/v1/inference"


class ModelStudioFace:
    """Answer on the path of Model Studio's WebSocket; used on one event loop."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def routes(self) -> Sequence[BaseRoute]:
        """Return the paths it answers."""
        return routes(PATH, self._serve)

    def reset(self) -> None:
        """Remember nothing, hence forget nothing."""

    async def _serve(self, websocket: WebSocket) -> None:
        visit, settings = Visit(self._service, websocket), self._service.settings
        if not await visit.enter(denial):
            return
        task: Task | None = None
        since = time.monotonic()
        try:
            while task is None or not task.failed:
                if task is not None and task.running:
                    if (left := task.left()) <= 0:
                        await task.fail("CLIENT_ERROR", f"request timeout after {settings.task_idle:g} seconds.")
                        continue
                elif (left := max(since, task.moved if task else 0.0) + settings.socket_idle - time.monotonic()) <= 0:
                    break
                message = await visit.hear(left)
                if message is not None:
                    task = await self._take(visit, task, message)
            await visit.close()
        except Gone:
            pass
        finally:
            visit.leave()
            if task is not None:
                await task.stop()

    async def _take(self, visit: Visit, task: Task | None, message: str | bytes) -> Task | None:
        try:
            document = json.loads(message)
            header, payload = document["header"], document["payload"]
            action, name = header["action"], str(header["task_id"])
        except (ValueError, KeyError, TypeError, UnicodeDecodeError):
            await visit.close(1007)
            raise Gone from None
        if action == "run-task":
            if task is not None:
                # The old one is dropped without a word.
                await task.stop()
            return await self._run(visit, name, payload)
        if task is None or not task.running or task.name != name:
            # What comes late for a task that is over changes nothing.
            return task
        try:
            task.take(action, payload)
        except Failure as failure:
            await task.fail(failure.code, failure.message)
        return task

    async def _run(self, visit: Visit, name: str, payload: Any) -> Task:
        service = self._service
        task = Task(visit, name)
        try:
            order = read_order(name, payload)
            try:
                service.pace(visit.address)
            except Problem as problem:
                raise Failure(*CODES[problem.code]) from problem
        except Failure as failure:
            await task.fail(failure.code, failure.message)
            return task
        try:
            await task.start(order, service.draw_fault())
        except Gone:
            await task.stop()
            raise
        return task
