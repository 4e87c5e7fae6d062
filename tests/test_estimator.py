"""The estimators are scikit-learn's in behaviour, and several tasks with missing labels are one network."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks

from polypath.core.errors import InvalidInput
from polypath.estimator import PathClassifier, PathRegressor

FAST: dict[str, Any] = {"hidden": (16,), "epochs": 15, "learning_rate": 0.02, "random_state": 0}

# Of scikit-learn's checks the ones that fit one to three times; all 109 of both estimators pass and take a quarter of
# a minute of one core: check_estimator(PathClassifier(**FAST)).
CHECKS = {
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_estimators_dtypes",
    "check_estimators_nan_inf",
    "check_estimators_overwrite_params",
    "check_estimators_pickle",
    "check_estimators_unfitted",
    "check_dont_overwrite_attributes",
    "check_dict_unchanged",
    "check_n_features_in_after_fitting",
    "check_fit2d_1sample",
    "check_supervised_y_no_nan",
    "check_supervised_y_2d",
    "check_classifiers_train",
    "check_classifiers_classes",
    "check_classifiers_one_label",
    "check_classifier_multioutput",
    "check_regressors_train",
    "check_regressor_multioutput",
    "check_dataframe_column_names_consistency",
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataConversionWarning")
@pytest.mark.parametrize("estimator", [PathClassifier(**FAST), PathRegressor(**FAST)], ids=lambda e: type(e).__name__)
def test_scikit_learns_own_checks_pass(estimator: Any) -> None:
    tried = set()
    for one, check in estimator_checks.estimator_checks_generator(estimator):
        function = getattr(check, "func", check)
        if function.__name__ in CHECKS:
            check(one)
            tried.add(function.__name__)
    assert len(tried) >= 13


def table(rows: int = 120) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three numbers a row; whether the first is positive, and which third the second falls in."""
    stream = np.random.default_rng(0)
    x = stream.normal(size=(rows, 3)) * (1, 5, 100) + (0, 10, 1000)
    return x, (x[:, 0] > 0).astype(int), np.digitize(x[:, 1], (8, 12))


def test_tasks_of_a_mapping_keep_their_names_classes_and_form() -> None:
    x, sign, third = table()
    words = np.asarray(["no", "yes"])[sign]
    model = PathClassifier(**{**FAST, "epochs": 60}).fit(x, {"sign": words, "third": third})
    assert model.classes_["sign"].tolist() == ["no", "yes"] and model.classes_["third"].tolist() == [0, 1, 2]
    answers, shares = model.predict(x), model.predict_proba(x)
    assert set(answers) == {"sign", "third"} and shares["third"].shape == (120, 3)
    assert set(answers["sign"]) == {"no", "yes"} and np.mean(answers["sign"] == words) > 0.9
    by_hand = (np.mean(answers["sign"] == words) + np.mean(answers["third"] == third)) / 2
    assert model.score(x, {"sign": words, "third": third}) == pytest.approx(by_hand)
    assert list(model.system_.tasks) == ["sign", "third"]


def test_a_matrix_is_a_task_a_column_and_missing_labels_teach_the_others_only() -> None:
    x, sign, third = table()
    y = np.stack([sign, third], 1).astype(float)
    y[:60, 0] = np.nan
    y[60:90, 1] = np.nan
    model = PathClassifier(**FAST).fit(x, y)
    assert model.predict(x).shape == (120, 2) and len(model.predict_proba(x)) == 2
    seen = model.score(x, y)
    answers = model.predict(x)
    by_hand = [np.mean(answers[60:, 0] == sign[60:]), np.mean(np.delete(answers[:, 1] == third, slice(60, 90)))]
    assert seen == pytest.approx(np.mean(by_hand))
    # The labels that are hidden are not used: whatever stands there, the same network comes out.
    other = PathClassifier(**FAST).fit(x, {"target0": y[:, 0], "target1": y[:, 1]})
    assert np.array_equal(other.predict(x)["target1"], answers[:, 1])


def test_regressions_answer_in_units_and_skip_missing_numbers() -> None:
    x, _, _ = table()
    y = np.stack([1000 + 50 * x[:, 0], 0.001 * x[:, 1]], 1)
    y[::3, 1] = np.nan
    model = PathRegressor(**{**FAST, "epochs": 80}).fit(x, y)
    found = model.predict(x)
    assert 950 < found[:, 0].mean() < 1050 and abs(found[:, 1].mean()) < 0.1
    assert model.score(x, y) > 0.8


def test_pipelines_searches_clones_and_pickles_work() -> None:
    x, sign, _ = table(60)
    search = GridSearchCV(
        make_pipeline(StandardScaler(), PathClassifier(**FAST)), {"pathclassifier__hidden": [(4,), (8,)]}, cv=2
    ).fit(x, sign)
    best = search.best_estimator_[-1]
    assert best.hidden in ((4,), (8,)) and clone(best).get_params() == best.get_params()
    scaled = search.best_estimator_[0].transform(x)
    assert np.array_equal(pickle.loads(pickle.dumps(best)).predict(scaled), best.predict(scaled))


def test_every_method_on_rows_can_be_asked_for() -> None:
    x, sign, third = table(60)
    y = {"sign": sign, "third": third}
    settings = {"share": 0.4, "patience": 2, "samples": 8, "min_delta": 0.0}
    rsn2 = PathClassifier("rsn2", validation_fraction=0.2, settings=settings, **FAST).fit(x, y)
    assert rsn2.system_.isolation == "exact" and rsn2.score(x, y) > 0.5
    assert np.array_equal(
        rsn2.predict(x)["sign"],
        PathClassifier("rsn2", validation_fraction=0.2, settings=settings, **FAST).fit(x, y).predict(x)["sign"],
    )


def test_fitting_again_forgets_the_form_of_before() -> None:
    x, sign, third = table(40)
    model = PathClassifier(**{**FAST, "epochs": 1}).fit(x, {"sign": sign})
    assert model.fit(x, third).predict(x).shape == (40,) and model.classes_.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"method": "rsn3"}, "rsn2"),
        ({"settings": {"epocs": 3}}, "epochs"),
        ({"method": "rsn2"}, "validation examples: set validation_fraction=0.1 or so, received 0"),
        (
            {"method": "multipath", "settings": {"assign": "difficulty", "distill": False, "probe_epochs": 1}},
            "selects by validation examples: set validation_fraction=0.1 or so, received 0",
        ),
        ({"y": {}}, "at least one task"),
        ({"y": {"a": np.zeros(40)}}, "two classes"),
        ({"y": {"a": np.arange(39) % 2}}, r"\{'a': 39\}"),
    ],
)
def test_mistakes_are_value_errors_that_say_what_is_wrong(change: dict[str, Any], said: str) -> None:
    x, sign, _ = table(40)
    y = change.pop("y", sign)
    with pytest.raises(InvalidInput, match=said):
        PathClassifier(**{**FAST, **change}).fit(x, y)
