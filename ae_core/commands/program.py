"""The command line: data, train, features, classify, verify, profile, bench, kernel."""

from __future__ import annotations

from ae_core.commands import data, typed
from ae_core.commands.classification import classify, features
from ae_core.commands.kernel import kernel
from ae_core.commands.options import declared
from ae_core.commands.timing import bench, profile
from ae_core.commands.training import train
from ae_core.commands.verification import verify

app = typed.program(__doc__)
app.add_typer(data.app, name="data")
for command in (train, features, classify, verify, profile, bench, kernel):
    app.command()(declared(command))
