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


@main.command()
@click.argument("source")
@click.argument("directory", type=click.Path(file_okay=False))
@click.option("--tokenizer/--no-tokenizer", default=True, show_default=True, help="Whether to write the tokenizer too.")
@click.option("--overwrite", is_flag=True, help="Replace a directory that this command wrote.")
def convert(source: str, directory: str, tokenizer: bool, overwrite: bool) -> None:
    """Write the encoder of SOURCE to DIRECTORY in Hugging Face's format, with safetensors.

    SOURCE is a directory with a checkpoint in any format that is read here, or the id of a Hugging Face repository.
    What stands behind the encoder, such as a classifier, is left out.
    """
    from keras_bert_layers.checkpoints.save_pretrained import save_pretrained
    from keras_bert_layers.encoders.bert_encoder import BertEncoder
    from keras_bert_layers.text.bert_preprocessor import BertPreprocessor

    try:
        encoder = BertEncoder.from_pretrained(source)
        # Of the preprocessor only its tokenizer is written, whatever its length.
        preprocessor = BertPreprocessor.from_pretrained(source, long_documents=True) if tokenizer else None
        save_pretrained(encoder, directory, preprocessor, overwrite)
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
