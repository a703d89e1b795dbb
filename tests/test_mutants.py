"""The table of lines that uphold the truths names what is there: `make mutants` takes too long to find that out."""

import yaml

from benchmarks.mutants import PROJECT, TABLE, check, table


def test_every_line_and_every_test_of_the_table_is_there() -> None:
    mutants = list(table(yaml.safe_load(TABLE.read_text())))
    check(mutants)
    named = {mutant.red.partition("[")[0] for mutant in mutants}
    tests = {(file, name.rpartition("::")[2]) for file, _, name in (each.partition("::") for each in named)}
    assert {each for each in tests if f"def {each[1]}" not in (PROJECT / each[0]).read_text()} == set()
