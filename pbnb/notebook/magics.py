"""The magics: ``%pb_serve``, ``%pb_connect``, ``%pb_invite``, ``%%pb_peer`` and the others."""

from __future__ import annotations

import asyncio
import linecache
import math
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import (
    Magics,
    line_cell_magic,
    line_magic,
    magics_class,
    needs_local_scope,
    no_var_expand,
)
from IPython.display import display
from traitlets import Float

from ..aio.backoff import Backoff
from ..aio.client import connect
from ..aio.connection import Connection
from ..aio.keeping import Keeper, KeptReference, keep
from ..aio.server import Server
from ..cred import Invitation
from ..errors import LoginFailed
from ..failure import shown
from ..limits import Limits
from ..refs.reference import RemoteReference
from .awaiting import PLAIN, AwaitingCells
from .blocking import kernel_loop, run, wait
from .busy import BusyLines, Heartbeat
from .completion import Completion
from .destination import Place, address_of, targets
from .displays import Displays
from .interrupts import InterruptWaker
from .inviting import Inviter
from .journal import Journal
from .lines import split_serve, takes, without_comment
from .passwords import ask_invitation, ask_password
from .peer_commands import PeerCommands
from .prints import PrintLog, Prints
from .progress import ProgressBars
from .releasing import Holders, found_in, release
from .serving import PORTS, Serving, Servings
from .showing import invitation_widget, panel_of, panel_of_all
from .waits import WaitLines
from .wording import announcement, blocked, described, pending, status

if TYPE_CHECKING:
    from .invitation_widget import InvitationWidget

__all__ = ["PBMagics", "load_ipython_extension", "unload_ipython_extension"]

# Where the cell finds the object whose `later` it awaits.
_OWNER = "get_ipython().magics_manager.registry['PBMagics']"
_EXAMPLE = f"127.0.0.1:{PORTS[0]}"
_LEGACY = "take PB's own login with MD5 where a peer, such as Twisted, has no better one"
_INSECURE = "let other machines reach what is not encrypted, or asks for no login"
_KEEP = "connect again whenever the connection has ended, to what is then served there"
_SECONDS = "the seconds after which connecting is given up"
_CALL_SECONDS = "the seconds after which each call of this side's is given up"


@dataclass(frozen=True)
class _Plan:
    """What a magic is going to do, its line having been read: begin it, and wait for it."""

    start: Callable[[], Coroutine[Any, Any, Any]]
    try_at_once: bool = False


@magics_class
class PBMagics(Magics):
    """Serves objects to other notebooks, and connects to what they serve."""

    connect_timeout = Float(10.0, min=0.001, help=f"{_SECONDS.capitalize()}.").tag(config=True)
    call_seconds = Float(
        math.inf, min=0.001, help=f"{_CALL_SECONDS.capitalize()}; inf waits as long as it takes."
    ).tag(config=True)

    longest_pause = Float(
        10.0, min=0.01, help="The longest pause between attempts to connect again, in seconds."
    ).tag(config=True)

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell)
        self.ipython = shell
        self.servings = Servings()
        self.connections: WeakSet[Connection] = WeakSet()
        self.keepers: WeakSet[Keeper] = WeakSet()
        self.waker = InterruptWaker()
        self.peers = PeerCommands(shell)
        self.inviter = Inviter(self.servings, self._value_of)
        self.plans: dict[str, Callable[[str, Mapping[str, Any]], _Plan]] = {
            "pb_serve": self._plan_serve,
            "pb_connect": self._plan_connect,
            "pb_stop": self._plan_stop,
        }
        self._cells = AwaitingCells(
            shell, _OWNER, (*self.plans, "pb_peer"), quiet=["pb_serve"], cell_names=["pb_peer"]
        )
        self._busy_lines = BusyLines(shell, self._all_connections)
        self._progress = ProgressBars(shell, self._all_connections)
        self._displays = Displays(shell)
        self._heartbeat = Heartbeat(kernel_loop(shell), self._beating_servers)
        self._journal = Journal()
        self._waits = WaitLines(shell)
        self._prints = Prints()
        self._completion = Completion(
            shell,
            {
                "pb_serve": lambda: [*self._variables(), *self._options("pb_serve")],
                "pb_connect": lambda: [*targets(), *self._options("pb_connect")],
                "pb_invite": lambda: [*self.inviter.names(), *self._options("pb_invite")],
                "pb_revoke": lambda: [*self.inviter.names(), *self._options("pb_revoke")],
                "pb_stop": lambda: [*(each.target for each in self.servings.open()), "all"],
                "pb_peer": lambda: [*self.peers.names(), *self._options("pb_peer")],
            },
        )

    def install(self) -> None:
        """Adds the magics to the shell, and what they need around them."""
        self.ipython.register_magics(self)
        self.ipython.input_transformers_post.append(self._cells)
        self._completion.install()
        self._journal.install()
        self._waits.install()
        self._busy_lines.install()
        self._progress.install()
        self._displays.install()
        if hasattr(self.ipython, "kernel"):
            self._heartbeat.install(self.ipython.events)

    def uninstall(self) -> None:
        """Takes back what `install` has added, and ends what is served."""
        self.peers.stop_all()
        loop = kernel_loop(self.ipython)
        if loop.is_running():
            # Nobody waits: the magic that unloads is not one of ours, and cannot be awaited.
            asyncio.run_coroutine_threadsafe(self.servings.stop_all(), loop)
        else:
            loop.run_until_complete(self.servings.stop_all())
        self._displays.uninstall()
        self._busy_lines.uninstall()
        self._progress.uninstall()
        self._heartbeat.uninstall(self.ipython.events)
        self._journal.uninstall()
        self._waits.uninstall()
        self._prints.uninstall()
        self._completion.uninstall()
        self.waker.disarm()
        if self._cells in self.ipython.input_transformers_post:
            self.ipython.input_transformers_post.remove(self._cells)
        manager = self.ipython.magics_manager
        for kind, functions in self.magics.items():
            for name, function in functions.items():
                if manager.magics[kind].get(name) == function:
                    del manager.magics[kind][name]
        manager.registry.pop(type(self).__name__, None)
        # %config lists these; IPython adds the object to them by itself.
        configurables: list[Any] = self.ipython.configurables
        if self in configurables:
            configurables.remove(self)

    @takes(
        expression={"metavar": "EXPR", "help": "what to serve: an object of a pb.Root"},
        port={"type": int, "help": f"where to listen; a free port from {PORTS[0]} on if left out"},
        host={"default": "127.0.0.1", "help": "where to listen; 127.0.0.1 if left out"},
        unix={
            "nargs": "?",
            "const": "",
            "help": "listen on a Unix socket, at this path or one that is chosen",
        },
        name={"help": "a name to connect to it by, in this user's notebooks"},
        anonymous={"action": "store_true", "help": "let anyone connect, without a login"},
        certfile={"help": "encrypt with this certificate; a key is made if left out and needed"},
        keyfile={"help": "the key of that, if it is in a file of its own"},
        client_ca={"help": "let those connect who show a certificate of this CA"},
        insecure={"action": "store_true", "help": _INSECURE},
        legacy_auth={"action": "store_true", "help": _LEGACY},
        thread={
            "action": "store_true",
            "help": "answer from a thread, also while this kernel computes: the methods run there",
        },
        serial={"action": "store_true", "help": "run one call of its methods at a time"},
        deadline={"type": float, "help": f"{_CALL_SECONDS}; PBMagics.call_seconds if left out"},
        output={
            "choices": ["cell", "widget"],
            "default": "cell",
            "help": "where its methods print: below this cell, or in a log that outlives the page",
        },
    )
    @no_var_expand
    @needs_local_scope
    @line_magic
    def pb_serve(self, line: str, local_ns: Mapping[str, Any] | None = None) -> Server | None:
        """Serves an object to other notebooks and programs.

        ``server = %pb_serve Echoer()`` prints the line that connects to it, and returns the
        server. Only this user's notebooks can connect: %pb_connect there logs in by itself.

        ``--host 0.0.0.0`` serves to other machines, encrypted. Whoever has the invitation can
        connect from there: ``%pb_invite --show`` shows it, in no saved notebook.
        """
        server: Server = self._now("pb_serve", line, local_ns)
        # pb_serve is called by run_line_magic, and that by the cell.
        return None if _stands_alone(sys._getframe(2)) else server

    @takes(
        target={
            "nargs": "?",
            "metavar": "TARGET",
            "help": "host:port, unix:/path, a name that is served, or an invitation",
        },
        ask={"action": "store_true", "help": "ask for the invitation, which stays nowhere"},
        cafile={"help": "the CA that vouches for the server's certificate"},
        certfile={"help": "the certificate to show to a server that wants one"},
        keyfile={"help": "the key of that, if it is in a file of its own"},
        timeout={"type": float, "help": f"{_SECONDS}; PBMagics.connect_timeout if left out"},
        deadline={"type": float, "help": f"{_CALL_SECONDS}; PBMagics.call_seconds if left out"},
        user={"help": "log in by this name; the password is asked for"},
        legacy_auth={"action": "store_true", "help": _LEGACY},
        keep={"action": "store_true", "help": _KEEP},
    )
    @line_magic
    def pb_connect(self, line: str) -> RemoteReference:
        """Connects to an object that a notebook or program serves.

        ``ref = %pb_connect 127.0.0.1:8789`` returns a reference to it, and
        ``await ref.callRemote("echo", "hello")`` calls it. Where this user serves it, the login
        needs nothing; with ``--user NAME`` the password is asked for, and kept nowhere.
        ``{server.address}`` stands for the value of a variable.

        An invitation leads to what somebody else serves. ``ref = %pb_connect --ask`` asks for it,
        so that it is not saved with the notebook.

        With ``--keep`` the reference connects again when the connection has ended, as when the
        other kernel was restarted and its cell was run again. Calls wait for it meanwhile.
        """
        ref: RemoteReference = self._now("pb_connect", line)
        return ref

    @takes(target={"nargs": "?", "metavar": "TARGET", "help": "a name or an address, or all"})
    @line_magic
    def pb_stop(self, line: str) -> None:
        """Stops to serve what this kernel serves, and ends the connections to it.

        Without a target it stops the only one.
        """
        self._now("pb_stop", line)

    @takes(
        name={"nargs": "?", "metavar": "NAME", "help": "what to call the invitation"},
        expires={"help": "how long it is good, such as 30m, 2h or 3d"},
        only={"help": "the methods that may be called, with commas between them"},
        object={"help": "the object that it leads to, in place of the one that is served"},
        on={"help": "the name or address of what is served"},
        show={"action": "store_true", "help": "show the line, and nothing of it when it is saved"},
    )
    @needs_local_scope
    @line_magic
    def pb_invite(
        self, line: str, local_ns: Mapping[str, Any] | None = None
    ) -> Invitation | InvitationWidget | None:
        """Invites somebody to what this kernel serves, or lists who is invited.

        ``%pb_invite alice --expires 2h`` makes an invitation of that name, and ``%pb_invite
        alice --show`` shows its line: in the page, and in no output that is saved. ``invitation =
        %pb_invite alice`` returns it, for ``invitation.reveal()``. ``--only read,status`` allows
        these methods alone. ``%pb_revoke alice`` takes it back.
        """
        args = self._parse("pb_invite", without_comment(line).split())
        made = self.inviter.invite(args, local_ns or {})
        if made is not None and args.show:
            return invitation_widget(made)
        return None if _stands_alone(sys._getframe(2)) else made

    @takes(
        name={"nargs": "?", "metavar": "NAME", "help": "the invitation"},
        on={"help": "the name or address of what is served"},
    )
    @line_magic
    def pb_revoke(self, line: str) -> None:
        """Takes an invitation back, and ends the connections that came by it."""
        args = self._parse("pb_revoke", without_comment(line).split())
        self.inviter.revoke(args.name, args.on)

    @takes()
    @line_magic
    def pb_status(self, line: str) -> None:
        """Shows what this kernel serves, to whom, and what it is connected to."""
        self._parse("pb_status", without_comment(line).split())
        held = [connection.peer for connection in self.connections if not connection.lost]
        away = [keeper for keeper in self._kept() if keeper.connection is None]
        print("\n".join(status(self.servings.open(), held, away)))
        connections = self._all_connections()
        for connection in connections:
            connection.ask_if_silent()
        beat = self._heartbeat
        lines = [*pending(connections)]
        if beat.blocked:
            lines.append(blocked(beat.blocked, kernel_loop(self.ipython).time() - beat.until))
        if lines:
            print("\n".join(lines))

    def _all_connections(self) -> list[Connection]:
        """Returns the connections that the magics know, and those of the notebook's variables."""
        served = (each for serving in self.servings.open() for each in serving.server.connections)
        values = list(self.ipython.user_ns.values())
        held = (each for each in values if isinstance(each, RemoteReference))
        brokers = (each.broker for each in held if isinstance(each.broker, Connection))
        kept = (each.connection for each in self._kept())
        found = dict.fromkeys([*served, *self.connections, *brokers, *kept])
        return [each for each in found if each is not None and not each.lost]

    def _beating_servers(self) -> list[Server]:
        """Returns the servers that do not answer while this kernel computes."""
        return [each.server for each in self.servings.open() if not each.server.thread]

    @takes(target={"nargs": "?", "metavar": "EXPR", "help": "a server or a reference"})
    @no_var_expand
    @needs_local_scope
    @line_magic
    def pb_show(self, line: str, local_ns: Mapping[str, Any] | None = None) -> Any:
        """Shows a live panel: who is connected, what is lent and borrowed, which calls wait.

        ``%pb_show`` shows everything of this notebook, ``%pb_show server`` or ``%pb_show ref``
        one server or one connection.
        """
        expression, namespace = without_comment(line), self.ipython.user_ns
        if expression:
            return panel_of(eval(expression, namespace, dict(local_ns or {})), namespace)
        return panel_of_all(
            lambda: [serving.server for serving in self.servings.open()],
            lambda: self.connections,
            self._kept,
            namespace,
        )

    @takes(name={"nargs": "?", "metavar": "NAME", "help": "a variable, or Out[3]"})
    @line_magic
    def pb_release(self, line: str) -> None:
        """Gives an object back to its owner: deletes the variables and results that hold it.

        IPython keeps every result that it displays, and a reference among them is never let go
        of by itself. ``%pb_release ref`` lets go of it, whatever else still holds it here.
        """
        name = self._parse("pb_release", without_comment(line).split()).name
        if not name:
            raise UsageError("say what to release, as in %pb_release ref")
        try:
            ref = found_in(self.ipython.user_ns, name)
        except KeyError:
            raise UsageError(f"there is no {shown(name)} in this notebook") from None
        if not isinstance(ref, RemoteReference):
            raise UsageError(f"{shown(name)} is no reference that could be released")
        print(release(ref, Holders(self.ipython.user_ns)))

    @takes(
        name={"nargs": "?", "metavar": "NAME", "help": "what to call the peer"},
        list={"action": "store_true", "help": "list the peers"},
        stop={"action": "store_true", "help": "end the peer"},
        restart={"action": "store_true", "help": "end the peer, and start it again, empty"},
    )
    @line_cell_magic
    def pb_peer(self, line: str, cell: str | None = None) -> None:
        """Runs a cell in a companion process, which is there to serve or to call.

        A cell that begins with ``%%pb_peer NAME`` runs in the peer of that name, and what it
        prints, shows and raises appears below it. The peer is started when it is first named. It
        is a kernel with variables and a loop of its own, where pbnb is loaded and cells can
        await; it ends with this kernel.

        ``%pb_peer NAME`` shows what has been printed there since, such as by methods that were
        called. An interrupt of a cell that waits for a peer interrupts what the peer runs.
        """
        self._now("pb_peer", line, cell=cell)

    def later(
        self, name: str, line: str, cell: str | None = None, *, quiet: bool = False
    ) -> Coroutine[Any, Any, Any]:
        """Begins a magic for a cell that awaits it.

        Args:
            name: The name of the magic.
            line: What follows it.
            cell: The lines below it, if it is a magic of a whole cell.
            quiet: Whether there shall be no value for the cell to display.
        """
        if name != "pb_serve":
            # As run_line_magic does, for the caller of this method.
            expand: Callable[..., str] = self.ipython.var_expand
            line = expand(line, 1)
        return self._later(self._plan(name, line, cell, sys._getframe(1).f_locals), quiet)

    def _now(
        self,
        name: str,
        line: str,
        local_ns: Mapping[str, Any] | None = None,
        *,
        cell: str | None = None,
    ) -> Any:
        """Runs a magic for code that cannot await it."""
        plan = self._plan(name, line, cell, local_ns or {})
        loop = kernel_loop(self.ipython)
        self.waker.arm(loop)
        with _shown_in_one_sentence():
            return run(plan.start, loop, try_at_once=plan.try_at_once)

    async def _later(self, plan: _Plan, quiet: bool) -> Any:
        loop = kernel_loop(self.ipython)
        self.waker.arm(loop)
        with _shown_in_one_sentence():
            value = await wait(plan.start, loop)
        return None if quiet else value

    def _plan(self, name: str, line: str, cell: str | None, local_ns: Mapping[str, Any]) -> _Plan:
        if name == "pb_peer":
            args = self._parse(name, without_comment(line).split())
            return _Plan(self.peers.plan(args, cell))
        return self.plans[name](line, local_ns)

    def _plan_serve(self, line: str, local_ns: Mapping[str, Any]) -> _Plan:
        expression, options = split_serve(line)
        if not expression:
            raise UsageError("say what to serve, as in %pb_serve Echoer()")
        args = self._parse("pb_serve", [*options, "--", expression])
        root = eval(expression, self.ipython.user_ns, dict(local_ns))
        self.servings.check(root, args.name)
        limits = self._limits(args.deadline)

        log = PrintLog() if args.output == "widget" else None
        widget = None if log is None else _log_widget(log, kernel_loop(self.ipython))

        async def start() -> Server:
            with self._prints_into(log):
                serving = await self.servings.serve(
                    root,
                    host=args.host,
                    port=args.port,
                    name=args.name,
                    anonymous=args.anonymous,
                    legacy_auth=args.legacy_auth,
                    unix=args.unix,
                    insecure=args.insecure,
                    certfile=args.certfile,
                    keyfile=args.keyfile,
                    client_ca=args.client_ca,
                    limits=limits,
                    thread=args.thread,
                    concurrency="serial" if args.serial else None,
                )
            if hasattr(self.ipython, "kernel"):  # elsewhere the loop rests between two cells
                self._heartbeat.begin()
            print(announcement(serving))
            if widget is not None:
                display(widget)  # type: ignore[no-untyped-call]
            return serving.server

        return _Plan(start, try_at_once=True)

    def _prints_into(self, log: PrintLog | None) -> AbstractContextManager[None]:
        if log is None:
            return nullcontext()
        return self._prints.into(log, kernel_loop(self.ipython))

    def _plan_connect(self, line: str, local_ns: Mapping[str, Any]) -> _Plan:
        args = self._connect_args(line)
        timeout = self.connect_timeout if args.timeout is None else args.timeout
        if not timeout > 0:
            raise UsageError(f"--timeout {timeout:g} leaves no time: give it some seconds")
        limits = self._limits(args.deadline)
        with _shown_in_one_sentence():
            place = Place(ask_invitation() if args.ask else _unquoted(args.target))
            where = place.look_up().address
        # After all that could go wrong with the line: nobody types a password in vain.
        user = args.user or None
        password = None if user is None else ask_password(user, where)

        async def connect_now() -> RemoteReference:
            found = place.look_up()
            known = found if user is None else Invitation(found.address, found.key)
            try:
                ref: RemoteReference = await connect(
                    known,
                    username=user,
                    password=password,
                    cafile=args.cafile,
                    certfile=args.certfile,
                    keyfile=args.keyfile,
                    legacy_auth=args.legacy_auth,
                    timeout=timeout,
                    limits=limits,
                )
            except LoginFailed:
                if args.keep and user is None:
                    await place.check_refused(found.token)
                raise
            self.connections.add(ref.broker)
            return ref

        async def start() -> RemoteReference:
            if not args.keep:
                return await connect_now()
            longest = self.longest_pause
            ref = await keep(connect_now, Backoff(min(0.1, longest), longest, min(1.0, longest)))
            self.keepers.add(ref.broker)
            return ref

        return _Plan(start)

    def _connect_args(self, line: str) -> Any:
        words = without_comment(line).split()
        try:
            args = self._parse("pb_connect", words)
        except UsageError:
            if any(map(Invitation.is_line, words)):
                # What the parser says of a word too many quotes it.
                raise UsageError(
                    "beside the invitation there is something that makes no sense: it has to be "
                    "one word, and %pb_connect? shows the options"
                ) from None
            raise
        if not args.target and not args.ask:
            example = next(iter(targets()), _EXAMPLE)
            raise UsageError(f"say what to connect to, as in %pb_connect {example}")
        if args.target and args.ask:
            raise UsageError("--ask asks for what to connect to: leave out the rest")
        return args

    def _limits(self, seconds: float | None) -> Limits:
        """Returns the limits of connections whose calls may take so long."""
        if seconds is not None and not seconds > 0:
            raise UsageError(f"--deadline {seconds:g} leaves no time: give it some seconds")
        return Limits(call_seconds=self.call_seconds if seconds is None else seconds)

    def _plan_stop(self, line: str, local_ns: Mapping[str, Any]) -> _Plan:
        target = self._parse("pb_stop", without_comment(line).split()).target
        chosen = self._chosen(_unquoted(target) if target else None)

        async def start() -> None:
            for serving in chosen:
                await self.servings.stop(serving)
                print(f"stopped serving {described(serving)}")

        return _Plan(start)

    def _chosen(self, target: str | None) -> list[Serving]:
        """Returns what ``%pb_stop`` is to stop."""
        servings = self.servings.open()
        if not servings:
            raise UsageError("this kernel serves nothing that could be stopped")
        if target == "all":
            return servings
        served = ", ".join(serving.target for serving in servings)
        if target is None:
            if len(servings) > 1:
                raise UsageError(f"say what to stop, or all: this kernel serves {served}")
            return servings
        serving = self.servings.find(target, address_of(target))
        if serving is None:
            raise UsageError(f"this kernel serves nothing as {shown(target)}: it serves {served}")
        return [serving]

    def _kept(self) -> list[Keeper]:
        # Those that were made without the magic, too.
        held = list(self.ipython.user_ns.values())
        brokers = [each.broker for each in held if isinstance(each, KeptReference)]
        kept = dict.fromkeys([*self.keepers, *brokers])
        return [each for each in kept if each.error is not None or not each.lost]

    def _value_of(self, expression: str, local_ns: Mapping[str, Any]) -> Any:
        return eval(expression, self.ipython.user_ns, dict(local_ns))

    def _variables(self) -> list[str]:
        return sorted(name for name in self.ipython.user_ns if not name.startswith("_"))

    def _options(self, name: str) -> list[str]:
        actions = self.magics["line"][name].parser._actions
        return [option for action in actions for option in action.option_strings]

    def _parse(self, name: str, words: list[str]) -> Any:
        return self.magics["line"][name].parser.parse_args(words)


def _stands_alone(cell: FrameType) -> bool:
    """Returns whether a magic is a whole line of a cell, whose value IPython would show."""
    line = linecache.getline(cell.f_code.co_filename, cell.f_lineno)
    return cell.f_code.co_name == "<module>" and line.startswith(PLAIN)


def _log_widget(log: PrintLog, loop: asyncio.AbstractEventLoop) -> object:
    try:
        from .log_widget import show
    except ImportError:
        raise UsageError("--output widget needs ipywidgets: pip install ipywidgets") from None
    return show(log, loop)


def _unquoted(word: str) -> str:
    return word.strip("'\"")


@contextmanager
def _shown_in_one_sentence() -> Iterator[None]:
    """Makes IPython show the errors that say everything in one sentence without a traceback."""
    try:
        yield
    except (OSError, LoginFailed, ValueError, TypeError) as error:
        _show_as(error, f"{type(error).__name__}: {shown(str(error), None)}")
        raise
    except (KeyboardInterrupt, asyncio.CancelledError) as error:
        _show_as(error, f"{type(error).__name__}: the wait was interrupted")
        raise


def _show_as(error: BaseException, text: str) -> None:
    # IPython asks an exception for this. It may be of anybody's class, so the instance gets it.
    if not hasattr(error, "_render_traceback_"):
        error._render_traceback_ = lambda: [text]  # type: ignore[attr-defined]


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Adds the magics to a shell.

    Args:
        shell: The shell of the notebook.
    """
    unload_ipython_extension(shell)
    PBMagics(shell).install()


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Takes the magics away, and ends what they serve.

    Args:
        shell: The shell of the notebook.
    """
    magics = shell.magics_manager.registry.get(PBMagics.__name__)
    if isinstance(magics, PBMagics):
        magics.uninstall()
