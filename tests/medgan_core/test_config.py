import math
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medgan_core.codec import flatten, unflatten
from medgan_core.config import (
    IMAGE_SIZES,
    Study,
    load_study,
    parse_study,
)
from medgan_core.defaults import (
    LARGE_IMAGES,
    MANY_CLASSES,
    OF_TASK,
    OF_TASK_PRIVATE,
    OF_TASK_WITHOUT_PRIVACY,
    WITHOUT_PRIVACY,
)
from medgan_core.errors import ConfigError, InputError

STUDIES = sorted((Path(__file__).parents[2] / "simulations" / "studies").glob("*.toml"))
MINIMAL: dict[str, Any] = {"name": "x", "data": {"kind": "npz", "path": "x.npz"}}


def changed(**values: Any) -> Study:
    """The minimal study with dotted keys, written with two underscores."""
    flat = flatten(MINIMAL) | {key.replace("__", "."): value for key, value in values.items()}
    return parse_study(unflatten(flat))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "x.toml"
    path.write_text('name = "x"\n[data]\nkind = "npz"\npath = "x.npz"\n[privacy]\nepsilon = 4\n')
    return path


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_shipped_study_parses_and_survives_being_written(path: Path, tmp_path: Path) -> None:
    study = load_study(path)
    assert study.name == path.stem
    written = tmp_path / "study.toml"
    written.write_text(study.to_toml())
    assert load_study(written) == study


def test_there_are_shipped_studies() -> None:
    assert {path.stem for path in STUDIES} >= {"pneumonia", "mnist", "mednist", "chestxray64", "phantoms"}


def test_a_study_that_says_little_gets_the_defaults() -> None:
    study = changed()
    assert study.private
    assert study.rounds == 3
    assert study.quorum == study.sites.count == 3
    assert study.weights == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    assert study.nominal_batch == pytest.approx(0.05 * 500)


def test_declared_values_replace_derived_ones() -> None:
    study = changed(sites__weights=[1, 1, 2], sites__quorum=2, privacy__nominal_batch=7, privacy__mode="off")
    assert study.weights == (0.25, 0.25, 0.5)
    assert study.quorum == 2
    assert study.nominal_batch == 7
    assert not study.private


def test_without_privacy_other_defaults_hold_and_what_is_written_still_counts(tmp_path: Path) -> None:
    study = changed(privacy__mode="off", training__anchor_weight=2.0)
    own = {"anchor_weight": 2.0} | OF_TASK_WITHOUT_PRIVACY["synthesis"]["training"]
    assert (
        own["spatial_noise"] > 0 == changed(task="augmentation", privacy__mode="off").training.spatial_noise
    )
    for section, defaults in WITHOUT_PRIVACY.items():
        expected = defaults | (own if section == "training" else {})
        assert {name: getattr(getattr(study, section), name) for name in expected} == expected
    assert changed().training.discriminator_optimizer == "sgd"
    (tmp_path / "study.toml").write_text(study.to_toml())
    assert load_study(tmp_path / "study.toml") == study
    with pytest.raises(ConfigError, match=r"^training = 3: expected a table"):
        changed(privacy__mode="off", training=3)


def test_large_images_have_smaller_defaults_and_what_is_written_still_counts() -> None:
    assert changed(data__image_size=32).training.generator_width == changed().training.generator_width
    large = changed(data__image_size=64, one_shot__iterations=7)
    assert large.training.generator_width == LARGE_IMAGES["training"]["generator_width"]
    assert large.one_shot.iterations == 7
    assert changed(data__image_size=64, privacy__mode="off").training.discriminator_width == 32


@pytest.mark.parametrize(("classes", "batch"), [(7, 128), (8, 128), (9, 135), (14, 210), (100, 256)])
def test_many_classes_have_more_and_fuller_matching_steps(classes: int, batch: int) -> None:
    names = [f"{number}" for number in range(classes)]
    asked = changed(data__classes=names).one_shot
    few = changed(data__classes=names[:2]).one_shot
    assert (asked.batch, few.batch) == (batch, 128)
    assert (asked.iterations > few.iterations) is (classes >= MANY_CLASSES)
    large = changed(data__classes=names, data__image_size=64).one_shot
    assert (large.batch, large.iterations) == (batch, LARGE_IMAGES["one_shot"]["iterations"])
    written = changed(data__classes=names, one_shot__iterations=7, one_shot__batch=40).one_shot
    assert (written.iterations, written.batch) == (7, 40)


@pytest.mark.parametrize("mode", ["dp", "off"])
@pytest.mark.parametrize("task", sorted(OF_TASK))
def test_a_task_has_its_own_defaults_and_what_is_written_still_counts(task: str, mode: str) -> None:
    own = (OF_TASK_PRIVATE if mode == "dp" else OF_TASK_WITHOUT_PRIVACY)[task]
    masked = {"data__kind": "folder", "data__masks": "masks.zip"} if task == "segmentation" else {}
    study = changed(task=task, privacy__mode=mode, mapping__pixel_weight=3.0, **masked)
    for section in {**OF_TASK[task], **own}:
        expected = OF_TASK[task].get(section, {}) | own.get(section, {})
        assert {name: getattr(getattr(study, section), name) for name in expected} == expected
    assert study.mapping.pixel_weight == 3.0
    written = changed(task=task, privacy__mode=mode, training__ema_decay=0.7, **masked)
    assert written.training.ema_decay == 0.7
    assert changed().mapping.width == 16


def test_joint_steps_are_rounds_that_the_planner_is_not_asked_about() -> None:
    assert changed().strategy == "auto"
    joint = changed(share="gradient", privacy__secure_sum=True, data__classes=["a", "b"])
    assert joint.strategy == "refine"


def test_a_study_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        changed().rounds = 9


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("privacy__epsilon", 0),
        ("privacy__epsilon", -1.0),
        ("privacy__epsilon", math.inf),
        ("privacy__epsilon", math.nan),
        ("privacy__epsilon", "4"),
        ("privacy__epsilon", True),
        ("privacy__delta", 0),
        ("privacy__delta", 1.0),
        ("privacy__delta", math.nan),
        ("privacy__mode", "on"),
        ("privacy__sampling_rate", 1.5),
        ("privacy__sampling_rate", 0),
        ("privacy__sampling_rate", math.nan),
        ("privacy__noise_multiplier", 0),
        ("privacy__noise_multiplier", math.inf),
        ("privacy__clip_norm", math.inf),
        ("privacy__clip_norm", 1e-7),
        ("privacy__clip_norm", 1e7),
        ("privacy__nominal_batch", 0),
        ("privacy__one_shot_share", 1),
        ("privacy__max_images_per_patient", 0),
        ("data__views", 2),
        ("sites__count", 0),
        ("sites__count", "3"),
        ("sites__count", 3.0),
        ("sites__count", True),
        ("sites__quorum", -1),
        ("sites__quorum", 4),
        ("sites__weights", [1.0, 1.0]),
        ("sites__weights", 1.0),
        ("sites__alpha", math.nan),
        ("sites__size_skew", math.nan),
        ("sites__epsilon_cap", 0),
        ("sites__epsilon_cap", math.nan),
        ("data__classes", ["a", "b", "a"]),
        ("data__classes", "ab"),
        ("data__classes", [""]),
        ("data__classes", ["a", " "]),
        ("training__anchor_weight", math.inf),
        ("mapping__cycle_weight", math.inf),
        ("data__image_size", 30),
        ("data__image_size", 28.5),
        ("data__channels", 2),
        ("data__kind", "zip"),
        ("data__path", 5),
        ("data__flip", "yes"),
        ("data__rotate_degrees", math.nan),
        ("rounds", -1),
        ("rounds", True),
        ("rounds", "3"),
        ("seed", 2**63),
        ("name", "../x"),
        ("name", ""),
        ("task", "magic"),
        ("share", "all"),
        ("training__loss", "perceptual"),
        ("training__batch", 1),
        ("training__ema_decay", 1),
        ("training__anchor_weight", math.nan),
        ("one_shot__frequencies", 7),
        ("evaluation__synthetic_images", 15),
        ("phantoms", 3),
        ("privacy", 3),
    ],
)
def test_an_impossible_value_is_told_with_name_value_and_expectation(key: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        changed(**{key: value})
    error = caught.value
    assert error.name == key.replace("__", ".")
    assert error.value is value or list(error.value) == value  # type: ignore[call-overload]
    assert error.expected
    assert str(error) == f"{error.name} = {error.value!r}: expected {error.expected}"
    assert error.exit_code == 2


JOINT = {
    "share": "gradient",
    "strategy": "refine",
    "data__classes": ["a", "b"],
    "privacy__secure_sum": True,
    "privacy__mode": "dp",
}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("privacy__secure_sum", False),
        ("privacy__mode", "off"),
        ("strategy", "one_shot"),
        ("strategy", "auto"),
        ("sites__weights", [1.0, 2.0, 1.0]),
        ("training__adaptive", True),
    ],
)
def test_joint_steps_need_secure_sums_of_equal_parts_under_privacy(key: str, value: Any) -> None:
    assert changed(**JOINT).joint
    with pytest.raises(ConfigError, match="for share = gradient") as caught:
        changed(**JOINT | {key: value})
    assert caught.value.name == key.replace("__", ".")


def test_a_joint_step_is_a_training_round() -> None:
    asked = changed(**JOINT, rounds=4, training__discriminator_steps=25)
    assert (asked.rounds, asked.training_rounds) == (4, 100)
    assert changed(rounds=4).training_rounds == 4


def test_a_bad_item_of_a_list_is_named_by_its_place() -> None:
    with pytest.raises(ConfigError, match=r"^sites\.weights\.1 = nan: expected a finite number"):
        changed(sites__weights=[1.0, math.nan, 1.0])
    with pytest.raises(ConfigError, match=r"^data\.classes\.0 = 1: "):
        changed(data__classes=[1, 2])


@pytest.mark.parametrize(
    ("key", "known"),
    [
        ("colour", "rounds"),
        ("privacy.epsilom", "epsilon"),
        ("phantoms.patient", "patients"),
        ("data.path2", "path"),
    ],
)
def test_an_unknown_key_is_refused_and_the_known_ones_are_listed(key: str, known: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_study(unflatten(flatten(MINIMAL) | {key: 1}))
    assert caught.value.name == key
    assert "no such key; known are" in caught.value.expected
    assert known in caught.value.expected


def test_a_quoted_key_with_a_dot_is_unknown_and_no_crash() -> None:
    with pytest.raises(ConfigError, match="no such key"):
        parse_study(MINIMAL | {"privacy": {"a.b": 1}})


def test_a_value_where_a_table_belongs_lists_the_keys_of_the_table() -> None:
    with pytest.raises(
        ConfigError, match=r"^privacy = 3: expected a table; known are clip_norm, collude, delta"
    ):
        changed(privacy=3)


def test_a_missing_value_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^data\.path = None: expected a value"):
        parse_study({"name": "x", "data": {"kind": "npz"}})
    with pytest.raises(ConfigError, match=r"^data = None: expected a value"):
        parse_study({"name": "x"})


def test_image_sizes_are_those_of_the_networks() -> None:
    assert [changed(data__image_size=size).data.image_size for size in IMAGE_SIZES] == [28, 32, 64, 128]


# Files and overrides


def test_an_override_is_a_toml_value_else_a_string(file: Path) -> None:
    study = load_study(
        file,
        [
            "privacy.epsilon=2.5",
            "name=other",
            "data.flip=true",
            'data.classes=["a", "b"]',
            "sites.epsilon_cap=inf",
            "data.path=a=b.npz",
        ],
    )
    assert study.privacy.epsilon == 2.5
    assert study.name == "other"
    assert study.data.flip is True
    assert study.data.classes == ("a", "b")
    assert study.sites.epsilon_cap == math.inf
    assert study.data.path == "a=b.npz"


def test_an_override_can_add_a_nested_key_and_a_table(file: Path) -> None:
    study = load_study(file, ["phantoms.patients=3", "training.batch=8"])
    assert study.phantoms is not None
    assert study.phantoms.patients == 3
    assert study.training.batch == 8
    assert study.privacy.epsilon == 4


def test_an_override_of_a_table_replaces_all_of_it(file: Path) -> None:
    study = load_study(file, ["privacy={delta = 1e-6}"])
    assert (study.privacy.epsilon, study.privacy.delta) == (10.0, 1e-6)
    with pytest.raises(ConfigError, match=r"^privacy = 5: expected a table"):
        load_study(file, ["privacy=5"])
    both = load_study(file, ["privacy={delta = 1e-6}", "privacy.epsilon=3"])
    assert (both.privacy.epsilon, both.privacy.delta) == (3.0, 1e-6)


def test_the_last_override_of_a_key_counts(file: Path) -> None:
    assert load_study(file, ["rounds=1", "rounds=2"]).rounds == 2


@pytest.mark.parametrize("override", ["rounds", "=3", " = 3", ""])
def test_an_override_without_key_or_value_is_refused(file: Path, override: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        load_study(file, [override])


@pytest.mark.parametrize(
    ("override", "name"),
    [
        ("privacy.epsilon.more=3", "privacy.epsilon.more"),
        ("privacy.epsilom=3", "privacy.epsilom"),
        ("new.table.key=3", "new"),
        ("rounds=three", "rounds"),
        ("rounds=03", "rounds"),
        ("rounds=3\nname = 'y'", "rounds"),
        ("name=2024-01-01", "name"),
        ("data..path=3", "data."),
    ],
)
def test_a_bad_override_is_a_config_error(file: Path, override: str, name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_study(file, [override])
    assert caught.value.name == name


def test_a_file_that_is_missing_or_no_toml_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.toml: No such file"):
        load_study(tmp_path / "gone.toml")
    for content in (b"name = ", b"\xff\xfe"):
        (tmp_path / "bad.toml").write_bytes(content)
        with pytest.raises(InputError, match=r"bad\.toml is not TOML"):
            load_study(tmp_path / "bad.toml")
    with pytest.raises(InputError, match="Is a directory"):
        load_study(tmp_path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(
    epsilon=st.floats(1e-3, 1e3),
    cap=st.one_of(st.floats(0.1, 100), st.just(math.inf)),
    classes=st.lists(st.text(max_size=5).filter(str.strip), max_size=4, unique=True),
    weights=st.one_of(st.just([]), st.lists(st.floats(0.1, 10), min_size=3, max_size=3)),
    noise=st.one_of(st.none(), st.floats(0.1, 10)),
    patients=st.one_of(st.none(), st.integers(1, 999)),
)
def test_what_is_written_is_read_back(tmp_path: Path, **drawn: Any) -> None:
    study = changed(
        privacy__epsilon=drawn["epsilon"],
        sites__epsilon_cap=drawn["cap"],
        data__classes=drawn["classes"],
        sites__weights=drawn["weights"],
        privacy__noise_multiplier=drawn["noise"],
        **({"phantoms__patients": drawn["patients"]} if drawn["patients"] else {}),
    )
    path = tmp_path / "study.toml"
    path.write_text(study.to_toml(), encoding="utf-8")
    assert load_study(path) == study
    assert parse_study(unflatten(flatten(study.to_dict()))) == study
    assert tomllib.loads(study.to_toml()) == study.to_dict()


# Aggregation


def test_aggregation_is_the_plain_mean_unless_asked() -> None:
    asked = changed().aggregation
    assert (asked.rule, asked.momentum, asked.server_learning_rate, asked.norm_bound) == ("mean", 0, 1, 0)
    assert not asked.robust
    assert not asked.moving
    assert changed(training__proximal=0.1).training.proximal == 0.1


@pytest.mark.parametrize(("trim", "sites", "wild"), [(0.2, 10, 2), (0.29, 100, 29), (0.2, 4, 0), (0.0, 9, 0)])
def test_the_share_of_wild_sites_is_rounded_down(trim: float, sites: int, wild: int) -> None:
    assert changed(aggregation__trim=trim).aggregation.wild(sites) == wild


@pytest.mark.parametrize(
    ("sites", "quorum", "trim", "rule"),
    [
        (5, 5, 0.2, "krum"),
        (9, 7, 0.25, "krum"),
        (3, 3, 0.34, "trimmed_mean"),
        (10, 5, 0.2, "trimmed_mean"),
        (3, 1, 0.2, "median"),
    ],
)
def test_a_robust_rule_with_enough_sites_is_accepted(sites: int, quorum: int, trim: float, rule: str) -> None:
    study = changed(sites__count=sites, sites__quorum=quorum, aggregation__trim=trim, aggregation__rule=rule)
    assert study.aggregation.robust


SUMS = {"privacy__secure_sum": True, "data__classes": ["a", "b"]}
JOINT = SUMS | {"share": "gradient", "strategy": "refine"}
BAD_AGGREGATION: dict[str, tuple[dict[str, Any], str]] = {
    "krum of too few": (
        {"aggregation__rule": "krum", "sites__count": 5, "sites__quorum": 4},
        "aggregation.trim = 0.2: expected a share that leaves krum enough sites: 1 wild ones of 5 need "
        "sites.quorum of 5, which is 4",
    ),
    "trimmed mean of too few": (
        {"aggregation__rule": "trimmed_mean", "sites__count": 5, "sites__quorum": 2},
        "need sites.quorum of 3, which is 2",
    ),
    "nobody trimmed": (
        {"aggregation__rule": "trimmed_mean", "sites__count": 4},
        "aggregation.trim = 0.2: expected at least 0.25, which is one of 4 sites",
    ),
    "weights": (
        {"aggregation__rule": "median", "sites__weights": [1, 1, 2]},
        "aggregation.rule = 'median': expected mean with sites.weights",
    ),
    "secure sum and a rule": (
        SUMS | {"aggregation__rule": "median"},
        "aggregation.rule = 'median': expected mean with privacy.secure_sum",
    ),
    "secure sum and a bound": (
        SUMS | {"aggregation__norm_bound": 3.0},
        "aggregation.norm_bound = 3.0: expected 0 with privacy.secure_sum",
    ),
    "joint steps and momentum": (
        JOINT | {"aggregation__momentum": 0.5},
        "aggregation.momentum = 0.5: expected 0",
    ),
    "joint steps and a rate": (
        JOINT | {"aggregation__server_learning_rate": 0.5},
        "aggregation.server_learning_rate = 0.5: expected 1 with share = gradient",
    ),
    "joint steps and a pull": (
        JOINT | {"training__proximal": 0.1},
        "training.proximal = 0.1: expected 0.0 for share = gradient",
    ),
    "no such rule": (
        {"aggregation__rule": "bulyan"},
        "aggregation.rule = 'bulyan': expected 'mean', 'median'",
    ),
    "half are wild": ({"aggregation__trim": 0.5}, "aggregation.trim = 0.5"),
    "endless momentum": ({"aggregation__momentum": 1.0}, "aggregation.momentum = 1.0"),
}


@pytest.mark.parametrize("bad", BAD_AGGREGATION)
def test_an_aggregation_that_cannot_be_is_refused(bad: str) -> None:
    values, said = BAD_AGGREGATION[bad]
    with pytest.raises(ConfigError) as caught:
        changed(**values)
    assert said in str(caught.value)
