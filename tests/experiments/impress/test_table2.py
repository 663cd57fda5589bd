import json

from stolon.experiments.impress import table2
from stolon.masks.table2 import rows


def test_table_2_has_the_papers_rows_its_formula_and_bits(tmp_path):
    section = table2.section()
    printed, counted, honest = section.tables
    assert len(printed.rows) == len(counted.rows) == len(honest.rows) == len(rows())
    first = dict(zip(printed.columns, printed.rows[0], strict=True))
    assert (first["data"], first["tasks"], first["m"], first["C"]) == ("PermutedMNIST", "784!", "100", "55.5")
    assert first["C by the formula"] == "55.42"
    page = table2.publish(tmp_path, "stolon <b>")
    assert "stolon &lt;b&gt;" in page.read_text()
    value = json.loads((tmp_path / "impress-table2.json").read_text())
    assert value["rows"][0]["tasks"] is None
    assert value["rows"][1]["honest"]["ratio"] == rows()[1].honest.ratio
