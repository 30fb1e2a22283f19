"""What datasets read and write themselves: the catalog is the codec for their own media types.

What is not on the list is refused: a class that is not named here, a subclass of one that is, an
option that is not named. What executes code when it is read, such as pickles, HDF and XML, is not
on it. A caller never chooses a class, a path or an option.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kedro_flask_server.model.media_types import (
    ARROW_FILE,
    CSV,
    EXCEL,
    JPEG,
    PARQUET,
    PNG,
    TEXT,
)
from kedro_flask_server.project.exchange.bounds import (
    check_parquet,
    check_values,
    refuse_large,
    refuse_many_columns,
)

_MAX_PIXELS = 100_000_000


def _check_nothing(path: Path) -> None:
    """Take a file whose size is that of its data."""


def _check_arrow_file(path: Path) -> None:
    import pyarrow

    size = 0
    with pyarrow.OSFile(str(path)) as file, pyarrow.ipc.open_file(file) as reader:
        refuse_many_columns(len(reader.schema))
        for at in range(reader.num_record_batches):
            size += reader.get_batch(at).nbytes
            refuse_large(size)


def _check_workbook(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        refuse_large(sum(each.file_size for each in entries))
        if any("externalLinks" in each.filename for each in entries):
            raise ValueError("it has links to other files")


def _check_image(path: Path) -> None:
    from PIL import Image

    with Image.open(path, formats=("PNG", "JPEG")) as image:
        if image.width * image.height > _MAX_PIXELS:
            raise ValueError(f"it has more than {_MAX_PIXELS:,} pixels")


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A format in which a class reads and writes.

    Attributes:
        media_types: Its media types.
        options: The ``load_args`` that may be set.
        check: Raises where a file would take too much once it is decompressed.
        may_read: Whether a caller's data is read.
    """

    media_types: tuple[str, ...]
    options: frozenset[str] = frozenset()
    check: Callable[[Path], None] = _check_nothing
    may_read: bool = True


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_CSV_OPTIONS = _words(
    "sep delimiter header names index_col usecols dtype true_values false_values skipinitialspace "
    "skiprows skipfooter nrows na_values keep_default_na na_filter skip_blank_lines parse_dates "
    "date_format dayfirst cache_dates thousands decimal quotechar quoting doublequote escapechar "
    "comment encoding encoding_errors on_bad_lines low_memory float_precision dtype_backend engine"
)
_POLARS_CSV_OPTIONS = _words(
    "has_header columns new_columns separator comment_prefix quote_char skip_rows schema_overrides "
    "null_values missing_utf8_is_empty_string ignore_errors try_parse_dates infer_schema "
    "infer_schema_length n_rows encoding low_memory skip_rows_after_header truncate_ragged_lines "
    "decimal_comma dtypes"
)
_CSV = Format(media_types=(CSV,), options=_CSV_OPTIONS, check=check_values)
_POLARS_CSV = Format(media_types=(CSV,), options=_POLARS_CSV_OPTIONS, check=check_values)
_PARQUET = Format(
    media_types=(PARQUET,),
    options=frozenset(("columns", "engine", "filters", "dtype_backend", "use_nullable_dtypes")),
    check=check_parquet,
)
_POLARS_PARQUET = Format(
    media_types=(PARQUET,), options=frozenset(("columns", "n_rows")), check=check_parquet
)
_FEATHER = Format(
    media_types=(ARROW_FILE,),
    options=frozenset(("columns", "use_threads", "dtype_backend")),
    check=_check_arrow_file,
)
_EXCEL = Format(
    media_types=(EXCEL,),
    options=_words(
        "sheet_name header names index_col usecols dtype true_values false_values skiprows nrows "
        "na_values keep_default_na na_filter parse_dates date_format thousands decimal comment "
        "skipfooter dtype_backend engine"
    ),
    check=_check_workbook,
)
_TEXT = Format(media_types=(TEXT,))
_IMAGE = Format(media_types=(PNG, JPEG), check=_check_image)
_FIGURE = Format(media_types=(PNG,), may_read=False)

_DATASETS = "kedro_datasets"
FORMATS: Mapping[tuple[str, str | None], Format] = {
    (f"{_DATASETS}.pandas.csv_dataset.CSVDataset", None): _CSV,
    (f"{_DATASETS}.pandas.parquet_dataset.ParquetDataset", None): _PARQUET,
    (f"{_DATASETS}.pandas.feather_dataset.FeatherDataset", None): _FEATHER,
    (f"{_DATASETS}.pandas.excel_dataset.ExcelDataset", None): _EXCEL,
    (f"{_DATASETS}.pandas.generic_dataset.GenericDataset", "csv"): _CSV,
    (f"{_DATASETS}.pandas.generic_dataset.GenericDataset", "parquet"): _PARQUET,
    (f"{_DATASETS}.polars.csv_dataset.CSVDataset", None): _POLARS_CSV,
    (f"{_DATASETS}.polars.eager_polars_dataset.EagerPolarsDataset", "csv"): _POLARS_CSV,
    (f"{_DATASETS}.polars.eager_polars_dataset.EagerPolarsDataset", "parquet"): _POLARS_PARQUET,
    (f"{_DATASETS}.text.text_dataset.TextDataset", None): _TEXT,
    (f"{_DATASETS}.pillow.image_dataset.ImageDataset", None): _IMAGE,
    (f"{_DATASETS}.matplotlib.matplotlib_dataset.MatplotlibDataset", None): _FIGURE,
}
"""The formats, by the class and its ``file_format``."""

_CARRIED = ("load_args", "save_args", "file_format")


def format_of(
    dataset_class: type | None, arguments: Mapping[str, Any], *, allows_excel: bool = False
) -> Format | None:
    """Return the format of a dataset; None where it has none that is on the list.

    Args:
        dataset_class: Its class.
        arguments: The arguments that the catalog gives it.
        allows_excel: Whether workbooks are read (setting ``allow_excel``).
    """
    if dataset_class is None:
        return None
    path = f"{dataset_class.__module__}.{dataset_class.__qualname__}"
    kind = arguments.get("file_format")
    found = FORMATS.get((path, kind if isinstance(kind, str) else None))
    if found is None or (found is _EXCEL and not allows_excel):
        return None
    load_args = arguments.get("load_args") or {}
    are_plain = all(
        name in found.options and not callable(value) for name, value in load_args.items()
    )
    return found if are_plain or not found.may_read else None


def read(dataset_class: type, arguments: Mapping[str, Any], found: Format, path: Path) -> Any:
    """Return the data in a file, read by a dataset's class as the catalog has it read.

    Args:
        dataset_class: The class.
        arguments: The arguments that the catalog gives it.
        found: Its format.
        path: The file, whose ending is that of its media type.

    Raises:
        Exception: If the class cannot read it, or it is too large once it is decompressed.
    """
    found.check(path)
    return _clone(dataset_class, arguments, path).load()


def write(dataset_class: type, arguments: Mapping[str, Any], data: Any, path: Path) -> None:
    """Write data to a file as a dataset's class writes it.

    Raises:
        Exception: If the class cannot write it.
    """
    _clone(dataset_class, arguments, path).save(data)


def _clone(dataset_class: type, arguments: Mapping[str, Any], path: Path) -> Any:
    """Return a dataset of the same class, with a file of this machine, and no credentials."""
    return dataset_class(filepath=path.as_posix(), **carried(arguments))


def carried(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a dataset that count for its data, wherever that lies."""
    return {name: arguments[name] for name in _CARRIED if arguments.get(name) is not None}
