"""The ``relay`` command: puts together the commands of `relay.commands`."""

# Before all other imports, which take half a second: from here on SIGTERM means what it is documented to mean.
from relay import sigterm

sigterm.listen()

import os

import click
import structlog

from relay.commands.context import Run
from relay.commands.dead import dead
from relay.commands.demo import demo
from relay.commands.gateway import gateway
from relay.commands.init import init
from relay.commands.prune import prune
from relay.commands.replay import replay
from relay.commands.reporting import ReportingGroup
from relay.commands.run import run_worker
from relay.commands.status import status
from relay.commands.verify import verify
from relay.logs import configure_logs
from relay.same_file import refuse_same_file
from relay.settings import load_settings, unknown_settings


@click.group(cls=ReportingGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--assistant-db", metavar="URL", help="The daemon's database. [env: RELAY_ASSISTANT_DB]")
@click.option(
    "--gateway", "gateway_url", metavar="URL", help="The gateway: its database, or its socket. [env: RELAY_GATEWAY]"
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.version_option(package_name="invite-relay", prog_name="relay")
@click.pass_context
def main(ctx: click.Context, assistant_db: str | None, gateway_url: str | None, as_json: bool) -> None:
    """Carries invites from the assistant's database to the gateway's, through a transactional outbox.

    Exit codes: 0 done or clean; 1 drift found or something unrepaired; 2 usage; 3 interrupted, run it again;
    4 a side cannot be reached or read.
    """
    settings = load_settings(assistant_db=assistant_db, gateway=gateway_url)
    refuse_same_file(settings)
    configure_logs(settings.log_format)
    given = {"--assistant-db": assistant_db, "--gateway": gateway_url}
    ctx.obj = run = Run(settings, as_json, {option: url for option, url in given.items() if url is not None})
    for problem in unknown_settings(os.environ):
        if ctx.invoked_subcommand in (run_worker.name, gateway.name):
            structlog.get_logger().warning("unknown_setting", reason=problem)
        else:
            run.printer.warn(problem)


for command in (init, run_worker, status, replay, verify, dead, prune, gateway, demo):
    main.add_command(command)

if __name__ == "__main__":
    main()
