"""`ir.target`: the table of GPUs and the questions it answers."""

import pytest

from hectorite.ir.diagnostics import HectoriteError
from hectorite.ir.target import DEFAULT_TARGET, FEATURES, TARGETS, target, target_for


def test_a_name_that_is_near_is_suggested():
    with pytest.raises(HectoriteError, match=r"did you mean `sm_90`\?"):
        target("sm90")
    assert target(DEFAULT_TARGET).name == DEFAULT_TARGET


@pytest.mark.parametrize("gpu", TARGETS.values(), ids=TARGETS)
def test_the_rows_are_consistent(gpu):
    assert gpu.features <= FEATURES
    assert gpu.shared_per_block + gpu.shared_reserved <= gpu.shared_per_sm
    assert bool(gpu.wgmma) == gpu.has("wgmma")
    assert gpu.peak("f16") > gpu.peak("fma.f32")
    assert gpu.runs(gpu.name) and gpu.runs("sm_75")


def test_a_name_with_a_letter_is_one_architecture_alone():
    assert target("sm_90a").runs("sm_90a") and not target("sm_90").runs("sm_90a")
    assert not target("sm_100").runs("sm_90a") and target("sm_100").runs("sm_90")
    assert not target("sm_90").runs("sm_100")


def test_blocks_resident_is_the_least_of_four_limits():
    a100 = target("sm_80")
    assert a100.blocks_resident(256, 32, 0) == 8  # warps
    assert a100.blocks_resident(32, 16, 0) == 32  # blocks
    assert a100.blocks_resident(256, 128, 0) == 2  # registers
    assert a100.blocks_resident(256, 33, 0) == 6  # registers, in units of 256 for each warp
    assert a100.blocks_resident(128, 32, 40 * 1024) == 4  # shared memory
    assert a100.blocks_resident(128, 32, 200 * 1024) == 0
    assert a100.blocks_resident(128, 256, 0) == 0


def test_a_device_gets_the_best_target_it_runs():
    assert target_for((9, 0)).name == "sm_90a"
    assert target_for((8, 7)).name == "sm_86"
    assert target_for((12, 1)).name == "sm_120"
    with pytest.raises(HectoriteError, match="8.0 or later"):
        target_for((7, 5))


def test_asking_for_an_unknown_feature_is_a_mistake_of_the_caller():
    with pytest.raises(KeyError):
        target("sm_80").has("teleport")
