"""Serve Alibaba Model Studio's speech synthesis over WebSocket: one task after the other on a connection.

As documented on "CosyVoice WebSocket API" (help.aliyun.com/zh/model-studio/cosyvoice-websocket-api) and as its Python
SDK speaks it.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from cosyclient.emulator.apis.alibaba.model_studio_request import CODES, TaskFailure, denial_document, read_task
from cosyclient.emulator.apis.alibaba.model_studio_task import Task
from cosyclient.emulator.apis.websocket import ClientGone, ClientSession, WebSocketApi
from cosyclient.emulator.core.problems import Problem

if TYPE_CHECKING:
    from starlette.websockets import WebSocket


PATH = "/api-ws/v1/inference"


class ModelStudioWebSocketApi(WebSocketApi):
    """Serve Model Studio's WebSocket; used on one event loop."""

    path = PATH

    async def serve(self, websocket: WebSocket) -> None:
        """Serve one connection to its end."""
        session, settings = ClientSession(self.service, websocket), self.service.settings
        if not await session.open(denial_document):
            return
        task: Task | None = None
        since = time.monotonic()
        try:
            while task is None or not task.failed:
                if task is not None and task.running:
                    if (left := task.idle_left()) <= 0:
                        await task.fail(
                            TaskFailure("CLIENT_ERROR", f"request timeout after {settings.task_idle:g} seconds.")
                        )
                        continue
                elif (
                    left := max(since, task.last_activity if task else 0.0) + settings.socket_idle - time.monotonic()
                ) <= 0:
                    break
                message = await session.receive(left)
                if message is not None:
                    task = await self._take(session, task, message)
            await session.close()
        except ClientGone:
            pass
        finally:
            session.release()
            if task is not None:
                await task.stop()

    async def _take(self, session: ClientSession, task: Task | None, message: str | bytes) -> Task | None:
        try:
            document = json.loads(message)
            header, payload = document["header"], document["payload"]
            action, name = header["action"], str(header["task_id"])
        except (ValueError, KeyError, TypeError, UnicodeDecodeError):
            await session.close(1007)
            raise ClientGone from None
        if action == "run-task":
            if task is not None:
                # The service drops the old task without a message.
                await task.stop()
            return await self._run(session, name, payload)
        if task is None or not task.running or task.name != name:
            # A late message for a finished task has no effect.
            return task
        try:
            task.take(action, payload)
        except TaskFailure as failure:
            await task.fail(failure)
        return task

    async def _run(self, session: ClientSession, name: str, payload: Any) -> Task:
        service = self.service
        task = Task(session, name)
        try:
            request = read_task(name, payload)
            try:
                service.take_token(session.address)
            except Problem as problem:
                raise TaskFailure(*CODES[problem.code]) from problem
        except TaskFailure as failure:
            await task.fail(failure)
            return task
        try:
            await task.accept(request, service.draw_fault())
        except ClientGone:
            await task.stop()
            raise
        return task
