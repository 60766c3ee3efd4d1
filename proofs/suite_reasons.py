"""Why a test of Catalyst's suite fails although Catalyst is revived, of each that does."""

# By test: whose fault it is, and what is wrong.
REASONS: dict[str, tuple[str, str]] = {
    "tests/catalyst/data/test_sampler.py::test_dynamic_balance_class_sampler": (
        "the test's",
        "before it makes a sampler it puts arrays of different lengths into one, which NumPy refuses since 1.24; "
        "the sampler itself draws (`tests/runner/revival/test_revived_loaders.py`)",
    ),
}
