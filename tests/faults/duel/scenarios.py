"""What @cryb/mesa 1.5.8 loses, doubles or mixes up, by the numbers of its documented defects.

Each scenario plays on a stage of either side and returns what each device got.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

from tests.faults.chaos.checker import Verdict

from .stage import Stage

ONE_TO_THREE = range(1, 4)
TWENTY = range(1, 21)


def killed_server(stage: Stage) -> list[Verdict]:
    person = stage.person()
    person.arrive(stage.b.url)
    stage.b.kill()
    stage.dispatch(ONE_TO_THREE, person)
    stage.b.start()
    person.arrive(stage.b.url)
    return [stage.judge(person, ONE_TO_THREE)]


def one_of_two_devices_leaves(stage: Stage) -> list[Verdict]:
    phone = stage.person()
    laptop = stage.another_device_of(phone)
    phone.arrive(stage.a.url)
    laptop.arrive(stage.a.url)
    phone.leave()
    stage.dispatch([1], laptop)
    stage.send(stage.a, [(2, [laptop.id])])
    stage.dispatch([3], laptop)
    stage.judge(laptop, ONE_TO_THREE)
    stage.settle()
    laptop.leave()
    laptop.arrive(stage.a.url)
    stage.dispatch([4], laptop)
    return [stage.judge(laptop, range(1, 5))]


def one_of_two_servers_stops(stage: Stage) -> list[Verdict]:
    stopping, phone = stage.server(), stage.person()
    laptop = stage.another_device_of(phone)
    phone.arrive(stopping.url)
    laptop.arrive(stage.b.url)
    stopping.terminate()
    stage.dispatch(ONE_TO_THREE, laptop)
    return [stage.judge(laptop, ONE_TO_THREE)]


def leaves_while_authenticating(stage: Stage) -> list[Verdict]:
    person = stage.person()
    stage.store(ONE_TO_THREE, person)
    person.begin(stage.a.url, wait=0.2)
    person.leave()
    stage.a.until(f"accepted {person.id}")
    stage.dispatch(range(4, 7), person)
    person.arrive(stage.a.url)
    return [stage.judge(person, range(1, 7))]


def dispatches_in_a_row(stage: Stage) -> list[Verdict]:
    person = stage.person()
    stage.dispatch(TWENTY, person)
    person.arrive(stage.a.url)
    return [stage.judge(person, TWENTY)]


def sends_in_a_row(stage: Stage) -> list[Verdict]:
    person = stage.person()
    stage.send(stage.a, [(number, [person.id]) for number in TWENTY])
    person.arrive(stage.a.url)
    return [stage.judge(person, TWENTY)]


def stored_during_login(stage: Stage) -> list[Verdict]:
    server, dispatcher, person = stage.server(delay=0.15), stage.slow_dispatcher, stage.person()
    person.begin(server.url)
    server.until(f"accepted {person.id}")
    dispatcher.dispatch([(1, [person.id])])
    stage.judge(person, [1])
    person.leave()
    person.arrive(server.url)
    return [stage.judge(person, [1])]


def written_back_after_login(stage: Stage) -> list[Verdict]:
    server, dispatcher, person = stage.server(delay=0.025), stage.slow_dispatcher, stage.person()
    stage.store([1], person)
    dispatcher.begin([(2, [person.id])])
    time.sleep(0.125)
    person.arrive(server.url)
    dispatcher.until("done")
    stage.judge(person, [1, 2])
    stage.settle()
    dispatcher.dispatch([])
    person.leave()
    person.arrive(server.url)
    stage.dispatch([3], person)
    return [stage.judge(person, ONE_TO_THREE)]


def leaves_during_redelivery(stage: Stage) -> list[Verdict]:
    server, person = stage.server(redelivery=0.2), stage.person()
    stage.store(range(1, 6), person)
    person.arrive(server.url)
    stage.judge(person, [1])
    person.leave()
    person.arrive(server.url)
    return [stage.judge(person, range(1, 6))]


def live_during_redelivery(stage: Stage) -> list[Verdict]:
    person = stage.person()
    stage.store(range(1, 301), person)
    person.arrive(stage.a.url)
    stage.dispatch([301], person)
    return [stage.judge(person, range(1, 302))]


def to_one_then_to_all(stage: Stage) -> list[Verdict]:
    person = stage.person()
    person.arrive(stage.b.url)
    stage.send(stage.a, [(1, [person.id]), (2, None)])
    return [stage.judge(person, [1, 2])]


def one_id_on_two_servers(stage: Stage) -> list[Verdict]:
    phone = stage.person()
    laptop = stage.another_device_of(phone)
    phone.arrive(stage.a.url)
    laptop.arrive(stage.b.url)
    stage.send(stage.a, [(1, [phone.id])])
    return [stage.judge(phone, [1]), stage.judge(laptop, [1])]


class Scenario(NamedTuple):
    """A defect of 1.x.

    Attributes:
        number: of the defect.
        play: what happens.
    """

    number: int
    play: Callable[[Stage], list[Verdict]]

    @property
    def name(self) -> str:
        return self.play.__name__.replace("_", " ")


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
