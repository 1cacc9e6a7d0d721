"""The one app: a table of commands, each loaded when it is called, so that help is quick and a missing part harms one.

A command is a plain function; its docstring is its help, the part after "Example:" is shown below the options.
"""

import importlib.metadata
import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from penstock.cli import complaints
from penstock.core.errors import InputError
from penstock.core.lazy import import_quickly

CANCELLED = 130
_PLAIN: dict[str, Any] = {"help_option_names": ["--help", "-h"], "max_content_width": 100}


class Entry(NamedTuple):
    """A command: where its function is ("module:function"), and what it does in a few words."""

    place: str
    help: str


COMMANDS = {
    "new": Entry("penstock.cli.new:new", "Make a working project from the example."),
    "plan": Entry("penstock.cli.plan:plan", "Say what would run or be reused, and why."),
    "run": Entry("penstock.cli.run:run", "Run what changed, and release the result if every check passes."),
    "debug": Entry("penstock.cli.debug:debug", "Run one node alone, with the debugger at its failure."),
    "status": Entry("penstock.cli.status:status", "Tell how pipelines stand: six questions, with evidence."),
    "runs": Entry("penstock.cli.look:runs", "List the newest runs."),
    "show": Entry("penstock.cli.look:show", "Show a run or a release with its evidence."),
    "diff": Entry("penstock.cli.diff:diff", "Compare two runs or releases: code, data, quality, predictions."),
    "replay": Entry("penstock.cli.replay:replay", "Ask a candidate what users asked, and say which answers change."),
    "releases": Entry("penstock.cli.look:releases", "List the releases, and which is live."),
    "rollouts": Entry("penstock.cli.rollout:rollouts", "List rollouts, and what guards find of the one under way."),
    "promote": Entry("penstock.cli.rollout:promote", "Take a release to its next stage, or begin its rollout."),
    "rollback": Entry("penstock.cli.rollout:rollback", "Take a candidate back, or return to the release before."),
    "pause": Entry("penstock.cli.rollout:pause", "Keep a rollout at its stage."),
    "resume": Entry("penstock.cli.rollout:resume", "Let a paused rollout go on."),
    "split": Entry("penstock.cli.rollout:split", "Give a candidate a share of the users by hand."),
    "approve": Entry("penstock.cli.rollout:approve", "Approve a candidate in a role that policy asks for."),
    "reproduce": Entry("penstock.cli.reproduce:reproduce", "Make a release again and compare the bytes."),
    "serve": Entry("penstock.cli.serve:serve", "Answer requests from the live release over HTTP."),
    "predict": Entry("penstock.cli.serve:predict", "Ask a release for one answer."),
    "predictions": Entry("penstock.cli.traces:predictions", "List or search what was answered."),
    "trace": Entry("penstock.cli.traces:trace", "Explain one prediction, served and recomputed side by side."),
    "people": Entry("penstock.cli.people:people", "Say who may look at the pages, and act there."),
    "consumers": Entry("penstock.cli.consumers:consumers", "Register who asks: keys, quotas, promises; and their use."),
    "feedback": Entry("penstock.cli.truth:feedback", "Say what became of predictions."),
    "outcomes": Entry("penstock.cli.truth:outcomes", "Join the truth to predictions now."),
    "batch": Entry("penstock.cli.batch:batch", "Answer every row of files or a dataset with a release."),
    "stream": Entry("penstock.cli.stream:stream", "Answer rows as they come: a directory, a dataset, lines, a broker."),
    "load": Entry("penstock.cli.load:load", "Find the highest rate at which a release keeps its promise."),
    "plan-capacity": Entry(
        "penstock.cli.plan_capacity:plan_capacity", "Say how to serve, by five answers; and what it costs."
    ),
    "drill": Entry("penstock.cli.drill:drill", "Put a release through a burst, a kill, a slow disk, bad requests."),
    "up": Entry("penstock.cli.up:up", "Keep pipelines fresh: look, judge, retrain, release, again and again."),
    "tick": Entry("penstock.cli.tick:tick", "Do once all that is due, and end."),
    "experiment": Entry("penstock.cli.experiment:experiment", "Compare releases on real traffic until it is decided."),
    "worth": Entry("penstock.cli.worth:worth", "Show what releases came to offline, online and in money."),
    "retrain": Entry("penstock.cli.retrain:retrain", "Ask for a retrain."),
    "rehearse": Entry("penstock.cli.rehearse:rehearse", "Live through months of data in minutes, and compare."),
    "alerts": Entry("penstock.cli.alerts:alerts", "List what is wrong, one alert per cause, and what to do next."),
    "why": Entry("penstock.cli.alerts:why", "Walk back from an alert to rows, releases and code."),
    "dispose": Entry("penstock.cli.alerts:dispose", "Say whether an alert was worth hearing of."),
    "export": Entry("penstock.cli.moving:export", "Write a release to one file, or an image's folder or manifests."),
    "import": Entry("penstock.cli.moving:import_", "Take in a release from a file."),
    "doctor": Entry("penstock.cli.doctor:doctor", "Check what is kept, and say how to mend it."),
    "gc": Entry("penstock.cli.doctor:gc", "Remove what nothing needs; say what would go first."),
    "demo": Entry("penstock.cli.demo:demo", "Run the movies example from data to served answers."),
}


class _Commands(TyperGroup):
    """Lists commands from the table, and loads the one that is called."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, entry in COMMANDS.items():
            self.commands[name] = TyperCommand(name, help=entry.help)

    def resolve_command(self, ctx: Any, args: Any) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        return (name, command, rest) if name is None else (name, load(name), rest)


def load(name: str) -> TyperCommand:
    """Return a command made from its function.

    Raises:
        InputError: Its module is not installed.
    """
    module, _, function = COMMANDS[name].place.partition(":")
    try:
        called: Callable[..., object] = getattr(import_quickly(module), function)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise InputError(f"The command {name!r} is not part of this installation.") from error
    about, _, example = inspect.cleandoc(called.__doc__ or "").partition("Example:\n")
    single = typer.Typer(add_completion=False, rich_markup_mode=None, context_settings=_PLAIN)
    epilog = f"\b\nExample:\n{inspect.cleandoc(example).strip()}" if example else None
    if epilog is not None:
        epilog = epilog.replace("\n", "\n  ").replace("\n  Example", "\nExample").replace("\n  \n", "\n\n\b\n")
    single.command(name, help=about.strip(), epilog=epilog)(called)
    command: Any = typer.main.get_command(single)
    return command  # type: ignore[no-any-return]  # its class differs between versions of typer


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        print(f"penstock {importlib.metadata.version('penstock')}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """The whole life of a machine-learning pipeline: plan, run, release, serve, compare."""
    del version


def root() -> Any:
    """Return the app with all its commands."""
    app = typer.Typer(cls=_Commands, rich_markup_mode=None, context_settings=_PLAIN)
    epilog = "\b\nExample:\n  penstock plan         what would run, and why\n  penstock run          run it\n"
    epilog += "  penstock run --help   what a command can do"
    app.callback(epilog=epilog)(_root)
    return typer.main.get_command(app)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; whatever goes wrong is said in a line or two on standard error."""
    given = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        answer = root().main(given, prog_name="penstock", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        answer = CANCELLED
    except BrokenPipeError:  # whoever read the output has seen enough, as in `penstock runs | head`
        sys.stderr.close()
        return 0
    except Exception as error:  # noqa: BLE001 - the edge of the program: every failure becomes words and an exit code
        return complaints.tell(error, given)
    if answer == CANCELLED:
        complaints.tell_cancelled(given)
    return answer if isinstance(answer, int) else 0
