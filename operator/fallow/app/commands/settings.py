"""`fallow settings`: every variable that the operator reads."""


def show_settings() -> None:
    """List every FALLOW_* variable with its default and meaning."""
    from rich.console import Console
    from rich.table import Table

    from fallow.app.settings import Settings

    table = Table("variable", "default", "meaning")
    for name, field in Settings.model_fields.items():
        table.add_row(f"FALLOW_{name.upper()}", str(field.get_default(call_default_factory=True)), field.description)
    Console().print(table)
