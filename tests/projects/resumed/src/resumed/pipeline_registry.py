"""Twelve nodes with data in memory, in files, in versions and in partitions."""

from kedro.pipeline import Node, Pipeline

from resumed.ends import note


def read(raw):
    note("read")
    return raw["rows"]


def clean(rows, factor):
    note("clean")
    return [row * factor for row in rows]


def split(cleaned):
    note("split")
    return cleaned[::2], cleaned[1::2]


def derive(train):
    note("derive")
    return [row + 1 for row in train]


def count(cleaned):
    note("count")
    return {"sum": sum(cleaned)}, {"rows": len(cleaned)}


def part(features):
    note("part")
    return {f"part_{at}": [row] for at, row in enumerate(features)}


def fit_a(parts, offset):
    note("fit_a")
    loaded = (parts[name]() for name in sorted(parts))
    return {"a": sum(row for rows in loaded for row in rows) + offset}


def fit_b(features, stats):
    note("fit_b")
    return {"b": len(features) + stats["sum"]}


def evaluate(model_a, model_b, test):
    note("evaluate")
    return {"score": model_a["a"] * model_b["b"] - sum(test)}, [model_a["a"], model_b["b"]]


def report(scores, curve, table):
    note("report")
    return {**scores, "curve": curve, **table}


def archive(model_a):
    note("archive")
    return {"model_a": [model_a["a"]]}


def publish(reported, archived):
    note("publish")
    return {"report": reported, "archived": sorted(archived)}


def add_line(raw):
    note("add_line")
    return len(raw["rows"])


def follow(raw, fails):
    note("follow")
    if fails:
        raise ValueError("params:fails is set")
    return raw


def take_new(incoming):
    note("take_new")
    return sorted(incoming)


def register_pipelines() -> dict[str, Pipeline]:
    """Return the pipelines by name."""
    whole = Pipeline(
        [
            Node(read, "raw", "rows", name="read"),
            Node(clean, ["rows", "params:factor"], "cleaned", name="clean"),
            Node(split, "cleaned", ["train", "test"], name="split"),
            Node(derive, "train", "features", name="derive"),
            Node(count, "cleaned", ["stats", "table"], name="count"),
            Node(part, "features", "parts", name="part"),
            Node(fit_a, ["parts", "params:model.offset"], "model_a", name="fit_a"),
            Node(fit_b, ["features", "stats"], "model_b", name="fit_b"),
            Node(evaluate, ["model_a", "model_b", "test"], ["scores", "curve"], name="evaluate"),
            Node(report, ["scores", "curve", "table"], "reported", name="report"),
            Node(archive, "model_a", "archived", name="archive"),
            Node(publish, ["reported", "archived"], "published", name="publish"),
        ]
    )
    append = Pipeline(
        [
            Node(add_line, "raw", "appended", name="add_line"),
            Node(follow, ["raw", "params:fails"], "followed", name="follow"),
        ]
    )
    confirm = Pipeline(
        [
            Node(take_new, "incoming", "taken", name="take_new", confirms="incoming"),
            Node(follow, ["taken", "params:fails"], "followed", name="follow"),
        ]
    )
    transcoded = Pipeline(
        [
            Node(read, "raw", "shared@json", name="read"),
            Node(follow, ["shared@text", "params:fails"], "followed", name="follow"),
        ]
    )
    return {
        "__default__": whole,
        "append": append,
        "confirm": confirm,
        "transcoded": transcoded,
    }
