"""The command line, `keras-bert-layers`."""

import sys

import click


@click.group()
@click.version_option(package_name="keras-bert-layers")
def main() -> None:
    """Every layer of BERT, inside a Keras model and inside one SavedModel."""


@main.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False))
@click.option("--server", default="2.20.0", show_default=True, help="Version of TensorFlow Serving, 2.13 to 2.20.")
@click.option("--run/--no-run", default=True, show_default=True, help="Whether to run the export's golden example.")
def check(directory: str, server: str, run: bool) -> None:
    """Check that TensorFlow Serving will take the export in DIRECTORY, the one named after its version.

    Prints what it found; ends with status 1 if any of it is an error, and with 2 if there is nothing to check. It runs
    the export's golden example, unless an operation of the graph reaches beyond it. Use --no-run for exports of people
    whom you do not trust.
    """
    # Here, so that --help does not wait for TensorFlow.
    from keras_bert_layers.serving import check as check_export

    try:
        findings = check_export(directory, server, run)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    for finding in findings:
        click.secho(str(finding), fg="red" if finding.severity == "error" else "yellow")
    errors = sum(finding.severity == "error" for finding in findings)
    if errors:
        click.echo(f"{errors} errors, {len(findings) - errors} warnings: do not serve this.")
        sys.exit(1)
    click.echo(f"no errors, {len(findings)} warnings")


if __name__ == "__main__":
    main()
