"""Writes breast-cancer.csv next to this file: 569 biopsies, from the data that ships inside scikit-learn."""

from pathlib import Path

from app.cli.demo import data

data.write(Path(__file__).with_name("breast-cancer.csv"), data.biopsies())
