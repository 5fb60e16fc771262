from itertools import product

from foundation.seeds import INVERSION, LABELS, SAMPLING, derived_seed


def test_every_use_has_a_seed_of_its_own() -> None:
    uses = list(product(range(5), (SAMPLING, LABELS, INVERSION), range(20), range(2)))
    seeds = {derived_seed(*use) for use in uses}
    assert len(seeds) == len(uses) and all(0 <= seed < 2**32 for seed in seeds)
    assert derived_seed(0, SAMPLING) == derived_seed(0, SAMPLING)


def test_a_purpose_is_a_number_of_its_own() -> None:
    from foundation import seeds

    purposes = [value for name, value in vars(seeds).items() if name.isupper()]
    assert len(purposes) == len(set(purposes)) == 8
