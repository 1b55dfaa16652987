"""What an answer that is neither a result nor a known refusal means: is the message the trouble, or the gateway?

A verdict about one request is no verdict about the gateway. What is odd about one answer among good ones, or where the
gateway is asked again and answers well, concerns that message alone.
"""

from outbox import Outcome, Verdict
from relay.destinations.doubts import Doubts
from relay.destinations.socket_flight import Flight
from relay.destinations.socket_protocol import UPGRADE, closes_topic, is_answered_well
from relay.destinations.socket_server import Server


def judge_odd(flight: Flight, server: Server, doubts: Doubts) -> None:
    """An odd answer is about its message where the gateway answered another one well, or a probe of the method."""
    answered_well = flight.answered_well
    of_the_store = [position for position, odd in flight.odd.items() if odd.is_of_the_store]
    if answered_well or len(flight.odd) == 1:
        # Either the store was locked for a while, or a row always makes it say so: each is tried alone.
        for position in of_the_store:
            doubts.begin(flight.batch[position])
    if len(flight.odd) > len(of_the_store):
        answered_well = answered_well or _method_answers(server, flight.until)
    for position, odd in flight.odd.items():
        is_outage = odd.is_of_the_store or not answered_well
        outcome = Outcome.UNREACHABLE if is_outage else Outcome.REFUSED_FOR_NOW
        flight.verdicts[position] = Verdict(outcome, f"the gateway answered: {odd.text}")


def judge_closing(flight: Flight, server: Server) -> None:
    """An answer that would close the topic does so where a probe of the method is answered like that as well.

    It is about its message alone where the gateway answered another one well, or the probe; and where that has no
    answer, or an odd one, the gateway is in trouble and nothing is known of the method.
    """
    if not flight.closing:
        return
    probed = None if flight.answered_well else server.probe_of_method(flight.until)
    if flight.answered_well or (probed is not None and is_answered_well(probed)):
        outcome, words = Outcome.REFUSED_FOR_NOW, "the gateway answers others, and of this message alone"
    elif probed is None or not closes_topic(probed):
        outcome, words = Outcome.UNREACHABLE, "the gateway says nothing else of the method, and of this message"
    else:
        return
    for position in flight.closing:
        said = (flight.verdicts[position].reason or "").removesuffix(UPGRADE)
        flight.verdicts[position] = Verdict(outcome, f"{words}: {said}")


def _method_answers(server: Server, until: float) -> bool:
    probed = server.probe_of_method(until)
    return probed is not None and is_answered_well(probed)
