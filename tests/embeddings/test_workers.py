"""Threads that each take whole pieces of work: order, errors and gradients."""

import threading
import time

import pytest
import torch
from torch import nn

from oce2stardist.embeddings.device import on_device
from oce2stardist.embeddings.network import OffsetNetwork
from oce2stardist.embeddings.workers import Workers, add_gradients, workers_for

CPU = torch.device("cpu")


@pytest.fixture
def four_threads():
    """Torch uses four threads during a test, and as many as before after it."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def test_results_come_in_the_order_of_the_items(four_threads):
    def slow_first(item):
        time.sleep(0.03 if item % 4 == 0 else 0.0)
        return item * item

    with workers_for(CPU) as workers:
        assert workers.count == 4
        assert list(workers.map(slow_first, range(13))) == [item * item for item in range(13)]
        assert list(workers.map(slow_first, [])) == []


def test_pieces_are_worked_on_at_the_same_time(four_threads):
    together = threading.Barrier(4, timeout=60)  # breaks unless four threads meet
    with workers_for(CPU) as workers:
        list(workers.map(lambda _: together.wait(), range(4)))


def test_items_are_not_drawn_long_before_they_are_needed(four_threads):
    drawn = []

    def items():
        for item in range(100):
            drawn.append(item)
            yield item

    with workers_for(CPU) as workers:
        results = workers.map(lambda item: item, items())
        for taken in range(1, 20):
            next(results)
            assert len(drawn) <= taken + workers.count
        results.close()


@pytest.mark.parametrize("at_most", [1, None])
def test_exceptions_pass_through(four_threads, at_most):
    def fails_at_3(item):
        if item == 3:
            raise ZeroDivisionError("item 3")
        return item

    seen = []
    with workers_for(CPU, at_most=at_most) as workers:
        with pytest.raises(ZeroDivisionError, match="item 3"):
            seen.extend(workers.map(fails_at_3, range(50)))
        assert list(workers.map(fails_at_3, range(3))) == [0, 1, 2]  # and work goes on
    assert torch.get_num_threads() == 4


def test_torch_s_threads_are_one_within_and_as_before_after(four_threads):
    with workers_for(CPU) as workers:
        assert torch.get_num_threads() == 1
        within = list(workers.map(lambda _: torch.get_num_threads(), range(8)))
    assert within == [1] * 8
    assert torch.get_num_threads() == 4
    with pytest.raises(KeyError), workers_for(CPU):
        raise KeyError("inside")
    assert torch.get_num_threads() == 4


@pytest.mark.parametrize(("at_most", "count"), [(None, 4), (9, 4), (3, 3), (1, 1)])
def test_no_more_threads_than_torch_had_or_were_asked_for(four_threads, at_most, count):
    with workers_for(CPU, at_most=at_most) as workers:
        assert workers.count == count


def test_other_devices_work_in_the_thread_that_asks(four_threads):
    with workers_for(torch.device("cuda")) as workers:
        assert workers.count == 1
        assert torch.get_num_threads() == 4
        (name,) = workers.map(lambda _: threading.current_thread().name, [0])
    assert name == threading.current_thread().name


def small_network():
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 5, 3), nn.ReLU(), nn.Conv2d(5, 2, 1)
    return nn.Sequential(*layers).double()


@pytest.mark.parametrize("parts", [1, 2, 3, 8])
def test_gradients_of_parts_are_those_of_one_pass(four_threads, parts):
    batch = torch.randn(8, 1, 12, 12, dtype=torch.float64)
    whole, split = small_network(), small_network()
    expected = whole(batch).square().mean()
    expected.backward()

    def loss_of(crops):
        return split(crops).square().mean() * (len(crops) / len(batch))

    with workers_for(CPU) as workers:
        for _ in range(2):  # gradients of an earlier step are replaced
            loss = add_gradients(split, batch.tensor_split(parts), loss_of, workers)
    assert not loss.requires_grad
    torch.testing.assert_close(loss, expected.detach())
    for one, other in zip(whole.parameters(), split.parameters(), strict=True):
        torch.testing.assert_close(other.grad, one.grad)


def test_threads_do_not_change_the_gradients(four_threads):
    batch = torch.randn(8, 1, 12, 12).double()

    def gradients(workers):
        network = small_network()
        add_gradients(network, batch.split(1), lambda crops: network(crops).sum(), workers)
        return [parameter.grad for parameter in network.parameters()]

    with workers_for(CPU) as threads:
        in_threads = gradients(threads)
    for one, other in zip(gradients(Workers(None, 1)), in_threads, strict=True):
        assert torch.equal(one, other)


def test_gradients_lie_in_memory_as_their_parameters():
    # Fused optimisers walk through memory: with another order of axes, weights would get each
    # other's gradients.
    network = on_device(OffsetNetwork(channels=1, feature_maps=4, growth=1), torch.device("cpu"))
    images = torch.rand(4, 1, 40, 40)
    add_gradients(
        network, images.split(2), lambda part: network(part).square().mean(), Workers(None, 1)
    )
    for parameter in network.parameters():
        assert parameter.grad is not None
        assert parameter.grad.stride() == parameter.stride()
