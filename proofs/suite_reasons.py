"""Why a test of Catalyst's suite fails although Catalyst is revived, of each that does."""

# By test: whose fault it is, and what is wrong.
REASONS: dict[str, tuple[str, str]] = {
    "tests/catalyst/data/test_sampler.py::test_dynamic_balance_class_sampler": (
        "the test's",
        "it makes a NumPy array of lists of different lengths, which NumPy refuses since 1.24, before it makes a "
        "sampler; the sampler itself draws (`tests/runner/revival/test_revived_loaders.py`)",
    ),
}
