"""The project's pipelines."""

from kedro.pipeline import Node, Pipeline

from exchanged import nodes


def register_pipelines():
    """Return the pipelines by name."""
    multiply = Node(nodes.multiply, ["rows", "params:factor"], "multiplied", name="multiply")
    echoes = [
        Node(nodes.echo_polars, "frame", "frame_again", name="polars"),
        Node(nodes.echo_arrow, "table", "table_again", name="arrow"),
        Node(nodes.echo_array, "array", "array_again", name="array"),
        Node(nodes.echo_text, "text", "text_again", name="text"),
        Node(nodes.echo_octets, "octets", "octets_again", name="octets"),
    ]
    pipelines = {
        "multiply": Pipeline([multiply, Node(nodes.summarize, "multiplied", "sums", name="sum")]),
        "aggregate": Pipeline(
            [Node(nodes.aggregate, "sales", ["by_zip", "metrics"], name="aggregate")]
        ),
        "price": Pipeline([Node(nodes.price, ["order", "customer"], "total", name="price")]),
        "echo": Pipeline([Node(nodes.echo, "value", "echoed", name="echo")]),
        "pickle": Pipeline([Node(nodes.echo, "value", "value_pickled", name="pickle")]),
        **{each.name: Pipeline([each]) for each in echoes},
        "note": Pipeline([Node(nodes.echo, "note", "shouted", name="note")]),
        "picture": Pipeline([Node(nodes.invert, "picture", "size", name="invert")]),
        "model": Pipeline([Node(nodes.take_model, "model", "kind", name="kind")]),
        "check": Pipeline([Node(nodes.check, "checked", "count", name="check")]),
        "scale": Pipeline([Node(nodes.scale, "rows", "scaled", name="scale")]),
        "fail": Pipeline([multiply, Node(nodes.fail, "multiplied", "nothing", name="fail")]),
        "wait": Pipeline([Node(nodes.wait, "params:seconds", "waited", name="wait")]),
        "tell": Pipeline([Node(nodes.tell, "secret", "told", name="tell")]),
        "transcode": Pipeline(
            [
                Node(nodes.echo, "value", "by_name@one", name="write"),
                Node(nodes.echo, "by_name@two", "echoed", name="read"),
            ]
        ),
    }
    return {**pipelines, "__default__": pipelines["multiply"]}
