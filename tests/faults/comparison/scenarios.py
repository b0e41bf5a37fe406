"""Scenarios in which @cryb/mesa 1.5.8 loses, doubles or reorders messages, by the numbers of its defects.

Each scenario runs on a site of either side and returns a verdict for each device.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

from tests.faults.chaos.checker import Verdict

from .site import Site

ONE_TO_THREE = range(1, 4)
TWENTY = range(1, 21)


def killed_server(site: Site) -> list[Verdict]:
    device = site.device()
    device.arrive(site.b.url)
    site.b.kill()
    site.dispatch(ONE_TO_THREE, device)
    site.b.start()
    device.arrive(site.b.url)
    return [site.judge(device, ONE_TO_THREE)]


def one_of_two_devices_leaves(site: Site) -> list[Verdict]:
    phone = site.device()
    laptop = site.another_device_of(phone)
    phone.arrive(site.a.url)
    laptop.arrive(site.a.url)
    phone.leave()
    site.dispatch([1], laptop)
    site.send(site.a, [(2, [laptop.id])])
    site.dispatch([3], laptop)
    site.judge(laptop, ONE_TO_THREE)
    site.settle()
    laptop.leave()
    laptop.arrive(site.a.url)
    site.dispatch([4], laptop)
    return [site.judge(laptop, range(1, 5))]


def one_of_two_servers_stops(site: Site) -> list[Verdict]:
    stopping, phone = site.server(), site.device()
    laptop = site.another_device_of(phone)
    phone.arrive(stopping.url)
    laptop.arrive(site.b.url)
    stopping.terminate()
    site.dispatch(ONE_TO_THREE, laptop)
    return [site.judge(laptop, ONE_TO_THREE)]


def leaves_while_authenticating(site: Site) -> list[Verdict]:
    device = site.device()
    site.store(ONE_TO_THREE, device)
    device.begin(site.a.url, wait=0.2)
    device.leave()
    site.a.until(f"accepted {device.id}")
    site.dispatch(range(4, 7), device)
    device.arrive(site.a.url)
    return [site.judge(device, range(1, 7))]


def dispatches_in_a_row(site: Site) -> list[Verdict]:
    device = site.device()
    site.dispatch(TWENTY, device)
    device.arrive(site.a.url)
    return [site.judge(device, TWENTY)]


def sends_in_a_row(site: Site) -> list[Verdict]:
    device = site.device()
    site.send(site.a, [(number, [device.id]) for number in TWENTY])
    device.arrive(site.a.url)
    return [site.judge(device, TWENTY)]


def stored_during_login(site: Site) -> list[Verdict]:
    server, dispatcher, device = site.server(delay=0.15), site.slow_dispatcher, site.device()
    device.begin(server.url)
    server.until(f"accepted {device.id}")
    dispatcher.dispatch([(1, [device.id])])
    site.judge(device, [1])
    device.leave()
    device.arrive(server.url)
    return [site.judge(device, [1])]


def written_back_after_login(site: Site) -> list[Verdict]:
    server, dispatcher, device = site.server(delay=0.025), site.slow_dispatcher, site.device()
    site.store([1], device)
    dispatcher.begin([(2, [device.id])])
    time.sleep(0.125)
    device.arrive(server.url)
    dispatcher.until("done")
    site.judge(device, [1, 2])
    site.settle()
    dispatcher.dispatch([])
    device.leave()
    device.arrive(server.url)
    site.dispatch([3], device)
    return [site.judge(device, ONE_TO_THREE)]


def leaves_during_redelivery(site: Site) -> list[Verdict]:
    server, device = site.server(redelivery=0.2), site.device()
    site.store(range(1, 6), device)
    device.arrive(server.url)
    site.judge(device, [1])
    device.leave()
    device.arrive(server.url)
    return [site.judge(device, range(1, 6))]


def live_during_redelivery(site: Site) -> list[Verdict]:
    device = site.device()
    site.store(range(1, 301), device)
    device.arrive(site.a.url)
    site.dispatch([301], device)
    return [site.judge(device, range(1, 302))]


def to_one_then_to_all(site: Site) -> list[Verdict]:
    device = site.device()
    device.arrive(site.b.url)
    site.send(site.a, [(1, [device.id]), (2, None)])
    return [site.judge(device, [1, 2])]


def one_id_on_two_servers(site: Site) -> list[Verdict]:
    phone = site.device()
    laptop = site.another_device_of(phone)
    phone.arrive(site.a.url)
    laptop.arrive(site.b.url)
    site.send(site.a, [(1, [phone.id])])
    return [site.judge(phone, [1]), site.judge(laptop, [1])]


class Scenario(NamedTuple):
    """A defect of 1.x.

    Attributes:
        number: that of the defect.
        run: runs the scenario.
    """

    number: int
    run: Callable[[Site], list[Verdict]]

    @property
    def name(self) -> str:
        return self.run.__name__.replace("_", " ")


SCENARIOS = (
    Scenario(22, killed_server),
    Scenario(23, one_of_two_devices_leaves),
    Scenario(24, one_of_two_servers_stops),
    Scenario(27, leaves_while_authenticating),
    Scenario(33, dispatches_in_a_row),
    Scenario(34, sends_in_a_row),
    Scenario(35, stored_during_login),
    Scenario(36, written_back_after_login),
    Scenario(37, leaves_during_redelivery),
    Scenario(38, live_during_redelivery),
    Scenario(39, to_one_then_to_all),
    Scenario(47, one_id_on_two_servers),
)
