from stolon.experiments.scatter import scatter


def test_a_scatter_plot_names_its_series_and_labels():
    found = scatter(
        {"ours": [(10.0, 1.0), (20.0, 2.0)], "_theirs": [(15.0, -1.0)]},
        title="a title",
        x_title="size",
        y_title="gain",
        alt="words",
        fronts={"ours": [(10.0, 1.0), (20.0, 2.0)]},
        labels=[(20.0, 2.0, "here")],
        level=0.0,
    )
    text = found.data.decode()
    for word in ("ours", "_theirs", "a title", "size", "gain", "here"):
        assert word in text
    assert found.alt == "words"


def test_the_same_points_are_the_same_picture():
    one, other = (
        scatter({"a": [(1.0, 1.0)]}, title="t", x_title="x", y_title="y", alt="w") for _ in range(2)
    )
    assert one == other
