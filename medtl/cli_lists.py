"""What commands share: folders that are there before torch is loaded, options that take several values."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from medtl.files import check_bundle, check_dataset

DatasetFolder = Annotated[Path, typer.Argument(help="The folder that ingest left.", callback=check_dataset)]
BundleFolder = Annotated[Path, typer.Argument(help="The folder that finetune left.", callback=check_bundle)]
Labels = Annotated[
    list[Path],
    typer.Option(
        metavar="<path>",
        help="CSV with a column path or scan_id and a 0/1/empty column for each finding; may be given several times: "
        "a later file corrects the earlier [default: the dataset's]",
    ),
]


class ListsOfNumbers(TyperCommand):
    """Options whose metavar ends in `...` take all numbers that follow: `--labels-per-class 10 30`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        lists = {name for each in self.params if (each.metavar or "").endswith("...") for name in each.opts}
        spread, option = list[str](), ""
        for word in args:
            if word.startswith("-"):
                option = word if word in lists else ""
            elif option and spread[-1] != option:
                if not word.replace(".", "", 1).isdigit():
                    option = ""
                else:
                    spread.append(option)
            spread.append(word)
        return super().parse_args(ctx, spread)
