"""The fault matrix: which faults there are, by number. Tier 1 runs with `make test`, all of them with `make faults`.

Before this: `faults_of_*.py`, one function a fault. After this: `test_matrix.py` and `__main__.py`.
"""

from __future__ import annotations

from tests.faults import faults_of_inputs as inputs
from tests.faults import faults_of_models as models
from tests.faults import faults_of_servers as servers
from tests.faults import faults_of_sources as sources
from tests.faults import faults_of_workers as workers
from tests.faults.fault import Fault

FAULTS = (
    Fault(1, "workers killed", workers.killed_three_times),
    Fault(2, "death after each step of the commit", workers.failpoints),
    Fault(5, "worker stands still beyond its session", workers.standing_still),
    Fault(9, "records that are none", inputs.poison),
    Fault(10, "documents on which the handler fails for ever", inputs.handler_fails),
    Fault(12, "broker killed, 10 s down", servers.broker_down, rest_s=120),
    Fault(13, "store killed during import, 5x", servers.store_killed, rest_s=120),
    Fault(18, "Connect killed twice", servers.connect_killed, rest_s=120),
    Fault(24, "500 row changes again, shuffled and doubled", inputs.replayed),
    Fault(25, "unchanged TOAST columns", sources.toast),
    Fault(32, "sizes at and over the limits", inputs.sizes),
    Fault(36, "one bad document in a batch of 100", inputs.one_in_a_hundred),
    Fault(38, "the model misbehaves in every way", models.misbehaves, rest_s=120),
    Fault(42, "archives that are bombs", inputs.bombs),
    Fault(4, "SIGTERM in the middle", workers.terminated, tier=2),
    Fault(7, "one worker, two, three, one", workers.scaled, tier=2),
    Fault(8, "workers come and go for 40 s", workers.storm, tier=2, rest_s=120),
    Fault(11, "no dead letter is taken for 15 s", servers.letters_refused, tier=2),
    Fault(14, "store killed among 600 deletes", servers.store_killed_in_deletes, tier=2, rest_s=120),
    Fault(15, "store slow, then frozen for a minute", servers.store_slow_then_frozen, tier=2, rest_s=120, pace_s=0.2),
    Fault(16, "store read-only for 15 s", servers.store_read_only, tier=2),
    Fault(17, "database killed twice", servers.database_killed, tier=2, rest_s=120),
    Fault(26, "primary keys change and swap", sources.keys_change, tier=2),
    Fault(27, "TRUNCATE among writes", sources.truncated, tier=2),
    Fault(29, "columns come, change and go", sources.columns_change, tier=2),
    Fault(33, "upload API killed among uploads, uploads sent again", inputs.uploads_interrupted, tier=2),
    Fault(34, "broker frozen 4 times while lag is measured", servers.lag_unknown, tier=2),
    Fault(35, "aborted transactions on the row topic", inputs.aborted_transactions, tier=2),
    Fault(37, "a document of 12,000 chunks deleted", inputs.huge_document, tier=2, rest_s=300, pace_s=0.3),
    Fault(45, "the same document 50 times at once", inputs.same_at_once, tier=2),
    Fault(46, "APIs killed and frozen", servers.apis_killed, tier=2),
    Fault(50, "the final exam: all frozen in turn, then all killed at once", servers.all_at_once, tier=2, rest_s=240),
    Fault(51, "registry down while a worker starts", servers.registry_killed, tier=2, rest_s=120),
)
TIER_1 = tuple(fault for fault in FAULTS if fault.tier == 1)


def numbered(numbers: list[int]) -> list[Fault]:
    """These faults, in the given order. Raises KeyError for one that there is not."""
    known = {fault.number: fault for fault in FAULTS}
    return [known[number] for number in numbers]
