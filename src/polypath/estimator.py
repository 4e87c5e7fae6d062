"""scikit-learn estimators for tables: one network with a task for every target column.

    from polypath.estimator import PathClassifier
    PathClassifier(epochs=50, random_state=0).fit(X, {"risk": risk, "stage": stage}).predict(X)

They are ordinary estimators: `get_params`, `clone`, pipelines and `GridSearchCV` work, and what was learned is a system
(`system_`) that can be saved, grown, exported and served.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _num_samples, check_is_fitted, column_or_1d, validate_data

from polypath.core.errors import InvalidInput, NeedsValidation, PolypathError
from polypath.core.examples import Examples, Suite, TaskData
from polypath.core.preprocess import TablePreprocess
from polypath.core.task import Classification, Features, Regression, Target, Task
from polypath.learning import learn
from polypath.system import System

ONE = "target"  # what the task of a vector is called


class _Tables(BaseEstimator, ABC):
    """What both estimators share: from arrays to a suite of tasks, and back to the form in which y came."""

    def __init__(
        self,
        method: str = "hard_sharing",
        *,
        hidden: tuple[int, ...] = (64, 64),
        epochs: int = 100,
        batch: int = 32,
        learning_rate: float = 1e-3,
        validation_fraction: float = 0.0,
        settings: Mapping[str, Any] | None = None,
        threads: int | None = 1,
        random_state: Any = None,
    ) -> None:
        self.method = method
        self.hidden = hidden
        self.epochs = epochs
        self.batch = batch
        self.learning_rate = learning_rate
        self.validation_fraction = validation_fraction
        self.settings = settings
        self.threads = threads
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn wants to know: several targets at once are welcome."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any) -> Self:
        """Learn every task.

        Args:
            X: (n, features) numbers; a data frame's column names travel with the system.
            y: (n,) one task; (n, k) a task a column; or {task: (n,)}. In a matrix and a mapping NaN (or None) marks a
                label that is missing: the row then teaches the other tasks only.

        Raises:
            InvalidInput: a method or setting that does not fit; a task without labels. A ValueError, as scikit-learn
                wants it.
        """
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        rows = validate_data(self, X, dtype=np.float64)
        self._form, columns = self._columns(y)
        self._check_lengths(rows, columns)
        prepared = {name: self._prepared(name, column) for name, column in columns.items()}
        names = getattr(self, "feature_names_in_", [f"x{number}" for number in range(rows.shape[1])])
        mean, std = rows.mean(0), rows.std(0)
        table = TablePreprocess.of(
            {
                "columns": tuple(str(name) for name in names),
                "mean": tuple(mean.tolist()),
                "std": tuple(np.where(std > 0, std, 1.0).tolist()),
            }
        )
        stream = check_random_state(self.random_state)
        inputs = torch.from_numpy(rows.astype(np.float32))
        tasks = [
            self._task(name, target, kept, values, table, inputs, stream)
            for name, (target, kept, values) in prepared.items()
        ]
        given = {"backbone": {"kind": "mlp", "hidden": list(self.hidden)}, "epochs": self.epochs, "batch": self.batch}
        given |= {"learning_rate": self.learning_rate, "precision": "32-true", "device": "cpu", "threads": self.threads}
        seed = int(stream.randint(np.iinfo(np.int32).max))
        try:
            settings = {**given, **(self.settings or {})}
            self.system_: System = learn(
                self.method, Suite("table", tuple(tasks)), seed=seed, progress=False, **settings
            )
        except NeedsValidation as error:
            raise InvalidInput(
                f"method {self.method!r} selects by validation examples: set validation_fraction=0.1 or so, received "
                f"{self.validation_fraction:g}"
            ) from error
        except InvalidInput:
            raise
        except PolypathError as error:  # an unknown method or setting is a KeyError of ours
            raise InvalidInput(str(error)) from error
        self.system_.data = None  # an estimator does not keep what it learned from
        self.tasks_ = tuple(columns)
        return self

    def predict(self, X: Any) -> Any:
        """Answers in the form in which y came: (n,), (n, k) or {task: (n,)}."""
        answers = self._asked(X, self._answer)
        return self._shaped(answers, lambda columns: np.stack(columns, 1))

    # ---- what differs -----------------------------------------------------------------------------------------

    @abstractmethod
    def _prepared(self, name: str, column: np.ndarray) -> tuple[Target, np.ndarray, np.ndarray]:
        """Target, which rows have a label, and their values as a task holds them."""

    @abstractmethod
    def _answer(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Answers (n,) of one task."""

    @abstractmethod
    def _figure(self, truth: np.ndarray, answers: np.ndarray, weight: np.ndarray | None) -> float:
        """How good answers of one task are."""

    # ---- inside -----------------------------------------------------------------------------------------------

    def _columns(self, y: Any) -> tuple[str, dict[str, np.ndarray]]:
        """In which form y came (dict, matrix, vector), and task -> its column."""
        if isinstance(y, Mapping):
            form, columns = "dict", {str(name): np.asarray(values).reshape(-1) for name, values in y.items()}
        else:
            names = getattr(y, "columns", None)
            values = np.asarray(y)
            if values.ndim == 2 and values.shape[1] > 1:
                form = "matrix"
                names = list(names) if names is not None else [f"{ONE}{i}" for i in range(values.shape[1])]
                columns = {str(name): values[:, place] for place, name in enumerate(names)}
            else:
                form, columns = "vector", {ONE: column_or_1d(values, warn=True)}
                if missing(columns[ONE]).any():
                    raise InvalidInput("Input y contains NaN: of one task every row needs a label; leave others out")
        if not columns:
            raise InvalidInput("y: at least one task is required, received none")
        for name, column in columns.items():
            if column.dtype.kind == "f" and np.isinf(column).any():
                raise InvalidInput(f"Input y contains infinity or a value too large (task {name!r})")
        return form, columns

    @staticmethod
    def _check_lengths(rows: np.ndarray, columns: Mapping[str, np.ndarray]) -> None:
        wrong = {name: len(column) for name, column in columns.items() if len(column) != len(rows)}
        if wrong:
            raise InvalidInput(
                f"X and y have inconsistent numbers of samples: {len(rows)} rows, but labels of {wrong} (task: number)"
            )

    def _task(
        self,
        name: str,
        target: Target,
        kept: np.ndarray,
        values: np.ndarray,
        table: TablePreprocess,
        inputs: torch.Tensor,
        stream: Any,
    ) -> TaskData:
        task = Task.of(
            {"name": name, "inputs": Features(size=inputs.shape[1]), "target": target, "preprocess": table}, name
        )
        index = torch.from_numpy(np.flatnonzero(kept))
        examples = Examples(Examples.of(inputs, torch.zeros(len(inputs))).source, torch.from_numpy(values), index)
        if not self.validation_fraction:
            return TaskData(task, examples)
        order = torch.from_numpy(stream.permutation(len(index)))
        size = max(1, round(len(index) * self.validation_fraction))
        return TaskData(task, examples.select(order[size:]), val=examples.select(order[:size]))

    def _mean_score(self, X: Any, y: Any, sample_weight: Any) -> float:
        """Mean over tasks of the figure of each, over the rows with a label."""
        columns, answers = self._columns(y)[1], self._asked(X, self._answer)
        if list(columns) != list(answers):
            raise InvalidInput(f"y: the tasks {list(answers)} required, received {list(columns)}")
        scores = []
        for name, column in columns.items():
            kept = ~missing(column)
            weight = None if sample_weight is None else np.asarray(sample_weight)[kept]
            scores.append(self._figure(column[kept], answers[name][kept], weight))
        return float(np.mean(scores))

    def _asked(self, X: Any, ask: Callable[[str, np.ndarray], np.ndarray]) -> dict[str, np.ndarray]:
        check_is_fitted(self, "system_")
        rows = validate_data(self, X, dtype=np.float64, reset=False).astype(np.float32)
        assert _num_samples(rows) == len(rows)
        return {name: ask(name, rows) for name in self.tasks_}

    def _shaped(self, answers: Mapping[str, Any], together: Callable[[list[Any]], Any]) -> Any:
        if self._form == "dict":
            return dict(answers)
        return answers[ONE] if self._form == "vector" else together(list(answers.values()))


class PathClassifier(ClassifierMixin, _Tables):
    """Classes of one or several tasks on one table.

    Args:
        method: any method whose backbone takes rows: `hard_sharing`, `single`, `rsn2`, `packnet`, `ewc`, ...
        hidden: widths of the backbone's layers.
        epochs: passes over the training rows.
        batch: rows a mini-batch.
        learning_rate: of the method's optimizer.
        validation_fraction: share of the labelled rows that methods which stop by validation get, 0..1.
        settings: further settings of the method or the run, `{"share": 0.2}`; they win over those above.
        threads: CPU threads; None takes all.
        random_state: seed of everything random; None draws one from NumPy's global generator, as scikit-learn does.

    Attributes:
        classes_: (c,) for one task, a list or a mapping of them for several.
        system_: the `polypath.System`.
        tasks_: names of its tasks.
    """

    def fit(self, X: Any, y: Any) -> Self:
        """Learn every task; see `_Tables.fit` for what y may be."""
        self._classes: dict[str, np.ndarray] = {}
        super().fit(X, y)
        self.classes_ = self._shaped(self._classes, list)
        return self

    def predict_proba(self, X: Any) -> Any:
        """Probabilities (n, classes) in the order of `classes_`; a list of them, or a mapping, for several tasks."""

        def ask(name: str, rows: np.ndarray) -> np.ndarray:
            found = self.system_.predict(name, rows).probabilities
            assert found is not None
            shares: np.ndarray = found.double().numpy()
            return shares / shares.sum(1, keepdims=True)  # sums to 1 in float64 too

        return self._shaped(self._asked(X, ask), list)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Accuracy, its mean over tasks where there are several; rows without a label do not count."""
        return self._mean_score(X, y, sample_weight)

    def _prepared(self, name: str, column: np.ndarray) -> tuple[Target, np.ndarray, np.ndarray]:
        kept = ~missing(column)
        labels = column[kept]
        if labels.dtype == object:
            labels = np.asarray(labels.tolist())
        check_classification_targets(labels)
        classes, codes = np.unique(labels, return_inverse=True)
        if len(classes) < 2:
            raise InvalidInput(
                f"y: at least two classes are required of task {name!r}, received one class: {classes.tolist()}"
            )
        if labels.dtype.kind == "f" and (classes == classes.astype(np.int64)).all() and column.dtype.kind == "f":
            shown = [str(int(one)) for one in classes]
        else:
            shown = [str(one) for one in classes.tolist()]
        self._classes[name] = classes
        return Classification(labels=tuple(shown)), kept, codes.reshape(-1).astype(np.int64)

    def _answer(self, name: str, rows: np.ndarray) -> np.ndarray:
        found = self.system_.predict(name, rows).probabilities
        assert found is not None
        answers: np.ndarray = self._classes[name][found.argmax(1).numpy()]
        return answers

    def _figure(self, truth: np.ndarray, answers: np.ndarray, weight: np.ndarray | None) -> float:
        return float(accuracy_score(truth, answers, sample_weight=weight))


class PathRegressor(RegressorMixin, _Tables):
    """Numbers of one or several tasks on one table, in their own units.

    Args:
        method: as of `PathClassifier`, like all the others.
        hidden: widths of the backbone's layers.
        epochs: passes over the training rows.
        batch: rows a mini-batch.
        learning_rate: of the method's optimizer.
        validation_fraction: share of the labelled rows for validation, 0..1.
        settings: further settings of the method or the run.
        threads: CPU threads; None takes all.
        random_state: seed of everything random.

    Attributes:
        system_: the `polypath.System`.
        tasks_: names of its tasks.
    """

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """R squared, its mean over tasks where there are several; rows without a label do not count."""
        return self._mean_score(X, y, sample_weight)

    def _prepared(self, name: str, column: np.ndarray) -> tuple[Target, np.ndarray, np.ndarray]:
        kept = ~missing(column)
        if not kept.any():
            raise InvalidInput(f"y: task {name!r} has no label at all")
        try:
            values = column[kept].astype(np.float64)
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"y: numbers required of task {name!r}: {error}") from error
        std = float(values.std())
        target = Regression(mean=(float(values.mean()),), std=(std if std > 0 else 1.0,))
        return target, kept, values.astype(np.float32)[:, None]

    def _answer(self, name: str, rows: np.ndarray) -> np.ndarray:
        found = self.system_.predict(name, rows).values
        assert found is not None
        answers: np.ndarray = found[:, 0].double().numpy()
        return answers

    def _figure(self, truth: np.ndarray, answers: np.ndarray, weight: np.ndarray | None) -> float:
        return float(r2_score(truth.astype(np.float64), answers, sample_weight=weight))


def missing(column: np.ndarray) -> np.ndarray:
    """Which labels of a column are missing: NaN or None; (n,) truth values."""
    if column.dtype.kind == "f":
        return np.isnan(column)
    if column.dtype == object:
        return np.asarray([one is None or one != one for one in column.tolist()], dtype=bool)
    return np.zeros(len(column), dtype=bool)
