"""The process that executes a chapter: started with an environment of its own, asked, and ended."""

from __future__ import annotations

import ast
import asyncio
import queue
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import run_sync

from ae_core import files
from ae_core.errors import InputError

PATIENCE = 600
"""Seconds for a kernel to come up: a busy machine is slow, a broken one ends the kernel."""
ARGUMENTS = ["--log-level=CRITICAL", "--HistoryManager.hist_file=:memory:"]


class Manager(AsyncKernelManager):
    """Starts, watches and ends a kernel of this Python: papermill's own would be what the user has
    registered as `python3`, with the user's environment."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._clients: list[AsyncKernelClient] = []

    def client(self, **options: Any) -> AsyncKernelClient:
        """A client, closed with the kernel."""
        client: AsyncKernelClient = super().client(**options)
        self._clients.append(client)
        return client

    async def begin(self, environment: dict[str, str], folder: str) -> None:
        """Start the kernel in a folder."""
        await self.start_kernel(extra_arguments=ARGUMENTS, env=environment, cwd=folder)

    async def end(self) -> None:
        """End the kernel and whatever it has started: first asked to, then forced."""
        unfinished = asyncio.all_tasks() - {asyncio.current_task()}  # after Ctrl-C
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)
        for client in self._clients:
            client.stop_channels()
        if self.has_kernel:
            await self.shutdown_kernel()
        await self.cleanup_resources()


class Kernel:
    """A running kernel.

    Args:
        manager: for papermill to execute cells through.
        client: a line to it of our own.
    """

    def __init__(self, manager: Manager, client: BlockingKernelClient) -> None:
        self.manager = manager
        self._client = client

    def evaluate(self, expression: str) -> Any:
        """The value, a literal, of an expression in the kernel; it leaves no trace there.

        Raises:
            InputError: the expression failed, with the kernel's words; or the kernel has ended.
        """
        asked = self._client.execute("", silent=True, user_expressions={"it": expression})
        while run_sync(self.manager._async_is_alive)():
            try:
                reply = self._client.get_shell_msg(timeout=1)
            except queue.Empty:
                continue
            if reply["parent_header"].get("msg_id") == asked:
                found = reply["content"].get("user_expressions", {}).get("it", reply["content"])
                if "data" not in found:
                    raise InputError(f"{found.get('ename')}: {found.get('evalue')}")
                return ast.literal_eval(found["data"]["text/plain"])
        raise InputError("the kernel has ended")


@contextmanager
def started(environment: dict[str, str], folder: str) -> Iterator[Kernel]:
    """A kernel, ended with the block.

    Its sockets are files, with short paths, in a folder of its own: ports can be taken by others.

    Args:
        environment: all of its environment variables.
        folder: where it works.

    Raises:
        RuntimeError: it did not come up.
    """
    with files.scratch() as own:
        manager = Manager(
            kernel_name="python3",
            kernel_spec_manager=KernelSpecManager(kernel_dirs=[]),  # this Python's, no other
            connection_file=str(own / "kernel.json"),
            transport="ipc",
            ip=str(own / "k"),
        )
        private = {"IPYTHONDIR": str(own / "ipython"), "JUPYTER_RUNTIME_DIR": str(own)}
        try:
            run_sync(manager.begin)(environment | private, folder)
            client = manager.blocking_client()
            client.start_channels()
            try:
                client.wait_for_ready(timeout=PATIENCE)
                yield Kernel(manager, client)
            finally:
                client.stop_channels()
        finally:
            run_sync(manager.end)()
