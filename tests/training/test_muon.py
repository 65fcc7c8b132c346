import math

import pytest
import torch

from bothways.training.muon import COEFFICIENTS, Muon, orthogonalize, same_shapes

RATE = 0.01


def matrix(*shape, seed=0):
    weight = torch.nn.Parameter(torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))
    weight.grad = torch.randn(*shape, generator=torch.Generator().manual_seed(seed + 100), dtype=torch.float64)
    return weight


def muon(weights, **settings):
    given = {"momentum": 0.9, "weight_decay": 0.0, "dtype": torch.float64, "lr": RATE}
    return Muon(weights, **{**given, **settings})


def nearest_orthogonal(wide):
    left, _, right = torch.linalg.svd(wide, full_matrices=False)
    return left @ right


@pytest.mark.parametrize("iterations", [3, 5])
@pytest.mark.parametrize("shape", [(8, 24), (24, 24), (64, 96)])
def test_the_nearest_orthogonal_matrix_is_nearly_found(shape, iterations):
    wide = torch.randn(5, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = orthogonalize(wide, iterations, torch.float64)
    true = nearest_orthogonal(wide)
    alike = torch.nn.functional.cosine_similarity(found.flatten(1), true.flatten(1))
    assert (alike > 0.95).all(), alike
    assert (torch.linalg.matrix_norm(found - true) < 0.3 * torch.linalg.matrix_norm(true)).all()


@pytest.mark.parametrize("kind", ["one row is large", "alike rows", "one row", "a row of zeros", "large", "small"])
def test_no_singular_value_exceeds_one_by_much_whatever_the_matrix(kind):
    wide = torch.randn(1, 16, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    match kind:
        case "one row is large":
            wide[:, 3] *= 1e4
        case "alike rows":
            wide = wide[:, :1] + 1e-3 * wide
        case "one row":
            wide = wide[:, :1]
        case "a row of zeros":
            wide[:, 2] = 0
        case "large" | "small":
            wide *= 1e20 if kind == "large" else 1e-6
    for dtype in (torch.float64, torch.bfloat16):
        values = torch.linalg.svdvals(orthogonalize(wide, 3, dtype).double())
        assert 0.8 < values.max() < 1.2


def test_more_iterations_leave_fewer_small_singular_values():
    wide = torch.randn(1, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    smallest = [
        float(torch.linalg.svdvals(orthogonalize(wide, iterations, torch.float64)).min())
        for iterations in range(1, len(COEFFICIENTS) + 1)
    ]
    assert smallest == sorted(smallest)
    assert smallest[-1] > 2 * smallest[-3]


def test_a_matrix_of_zeros_stays():
    assert torch.equal(orthogonalize(torch.zeros(1, 3, 4), 5, torch.float32), torch.zeros(1, 3, 4))


def test_matrices_of_one_shape_go_together_turned_or_not():
    assert same_shapes([torch.zeros(2, 3), torch.zeros(3, 3), torch.zeros(3, 2), torch.zeros(2, 3)]) == [[0, 2, 3], [1]]


def test_a_matrix_moves_the_same_alone_turned_and_among_others():
    alone, tall, among, other = matrix(6, 10), matrix(6, 10), matrix(6, 10), matrix(10, 6, seed=1)
    turned = torch.nn.Parameter(tall.detach().T.clone())
    turned.grad = tall.grad.T.clone()
    for _ in range(3):
        muon_steps = [([alone],), ([turned],), ([other, among],)]
        for (weights,) in muon_steps:
            muon(weights).step()
    assert torch.allclose(alone, turned.T, atol=1e-12)
    assert torch.allclose(alone, among, atol=1e-12)


def test_momentum_is_nesterovs_and_remembered():
    weight = matrix(4, 6)
    optimizer = muon([weight])
    before, first = weight.detach().clone(), weight.grad.clone()
    optimizer.step()
    buffer = 0.1 * first
    expected = orthogonalize((0.1 * first + 0.9 * buffer)[None], 3, torch.float64)[0]
    assert torch.allclose(before - weight, RATE * 0.2 * math.sqrt(6) * expected, atol=1e-12)
    weight.grad = second = torch.ones(4, 6, dtype=torch.float64) * torch.arange(6)
    before = weight.detach().clone()
    optimizer.step()
    buffer = 0.9 * buffer + 0.1 * second
    expected = orthogonalize((0.1 * second + 0.9 * buffer)[None], 3, torch.float64)[0]
    assert torch.allclose(optimizer.state[weight]["momentum_buffer"], buffer)
    assert torch.allclose(before - weight, RATE * 0.2 * math.sqrt(6) * expected, atol=1e-12)


def test_decay_shrinks_by_the_rate_beside_the_step():
    plain, decayed = matrix(4, 6), matrix(4, 6)
    start = plain.detach().clone()
    muon([plain]).step()
    muon([decayed], weight_decay=0.5).step()
    assert torch.allclose(plain - decayed, RATE * 0.5 * start)


def test_rows_are_evened_out_and_the_size_stays():
    weight = matrix(6, 10)
    before = weight.detach().clone()
    optimizer = muon([weight], row_beta=0.9)
    optimizer.step()
    moved = (before - weight).detach() / RATE
    plain = matrix(6, 10)
    muon([plain]).step()
    unevened = (before - plain).detach() / RATE
    rows = moved.square().mean(1)
    assert rows.max() / rows.min() < 1.001 < unevened.square().mean(1).max() / unevened.square().mean(1).min()
    assert float(moved.norm()) == pytest.approx(float(unevened.norm()), rel=1e-6)
    assert optimizer.state[weight]["row_squares"].shape == (6, 1)


def test_weights_without_a_gradient_stay_as_they_are():
    still, moving = matrix(4, 6), matrix(4, 6, seed=2)
    still.grad = None
    before = still.detach().clone()
    optimizer = muon([still, moving], weight_decay=0.5)
    optimizer.step()
    assert torch.equal(still, before)
    assert set(optimizer.state) == {moving}
