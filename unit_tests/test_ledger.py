"""The ledger against a model that knows every row, and each of its rules by an example."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from destination_bulk_tables.errors import BadInput
from destination_bulk_tables.ledger import Checkpoint, Ledger
from destination_bulk_tables.model import Epoch, StreamKey

STREAMS = [StreamKey(None, "users"), StreamKey("crm", "users"), StreamKey(None, "deals")]
streams = st.sampled_from(STREAMS)


@dataclass(eq=False)
class ModelRow:
    """A row as the model sees it: `fate` is None while it is under way."""

    stream: StreamKey
    epoch: Epoch
    fate: str | None = None


@dataclass(eq=False)
class ModelCheckpoint:
    """A checkpoint with all rows read before it, and those since the one before of its scope."""

    scope: StreamKey | None
    state: bytes
    before: list[ModelRow]
    own: list[ModelRow]
    is_out: bool = False


@dataclass
class Model:
    """Everything that happened, in order; decides by looking at all of it."""

    rows: list[ModelRow] = field(default_factory=list)
    checkpoints: list[ModelCheckpoint] = field(default_factory=list)
    held: set[StreamKey] = field(default_factory=set)

    def expected(self) -> dict[StreamKey | None, list[ModelCheckpoint]]:
        """Per scope, the checkpoints that must leave now, in order."""
        out: dict[StreamKey | None, list[ModelCheckpoint]] = {}
        for scope in {checkpoint.scope for checkpoint in self.checkpoints}:
            if self.held if scope is None else scope in self.held:
                continue
            for checkpoint in self.checkpoints:
                if checkpoint.scope != scope or checkpoint.is_out:
                    continue
                if any(row.fate is None for row in checkpoint.before):
                    break
                out.setdefault(scope, []).append(checkpoint)
        return out


class LedgerMachine(RuleBasedStateMachine):
    """Drives the ledger and the model with the same events and compares what they let go."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.model = Model()
        self.is_global = False

    @initialize(is_global=st.booleans(), held=st.sets(streams))
    def begin(self, *, is_global: bool, held: set[StreamKey]) -> None:
        self.is_global = is_global
        for stream in held:
            self.ledger.hold(stream)
        self.model.held = held

    @rule(stream=streams, count=st.integers(0, 4))
    def accept(self, stream: StreamKey, count: int) -> None:
        epoch = self.ledger.count_read(stream, count)
        self.model.rows += [ModelRow(stream, epoch) for _ in range(count)]

    @rule(stream=streams)
    def checkpoint(self, stream: StreamKey) -> None:
        scope = None if self.is_global else stream
        state = b'{"id":%d}' % len(self.model.checkpoints)
        self.ledger.checkpoint(state, scope)
        before = [row for row in self.model.rows if scope in {None, row.stream}]
        seen = {
            row for other in self.model.checkpoints if other.scope == scope for row in other.own
        }
        own = [row for row in before if row not in seen]
        self.model.checkpoints.append(ModelCheckpoint(scope, state, before, own))

    @precondition(lambda self: self.model.checkpoints)
    @rule(stream=streams)
    def mix_scopes(self, stream: StreamKey) -> None:
        with pytest.raises(BadInput, match="STREAM and GLOBAL"):
            self.ledger.checkpoint(b"{}", stream if self.is_global else None)

    @precondition(lambda self: any(row.fate is None for row in self.model.rows))
    @rule(data=st.data(), is_rejected=st.booleans())
    def settle(self, data: st.DataObject, *, is_rejected: bool) -> None:
        open_rows = [row for row in self.model.rows if row.fate is None]
        for row in data.draw(st.lists(st.sampled_from(open_rows), unique=True, max_size=6)):
            row.fate = "rejected" if is_rejected else "delivered"
            if is_rejected:
                row.epoch.rejected += 1
            else:
                row.epoch.delivered += 1

    @rule(stream=streams)
    def hold(self, stream: StreamKey) -> None:
        self.ledger.hold(stream)
        self.model.held.add(stream)

    @rule(stream=streams)
    def release(self, stream: StreamKey) -> None:
        self.ledger.release(stream)
        self.model.held.discard(stream)

    @rule()
    def acknowledge(self) -> None:
        expected = self.model.expected()
        ready: dict[StreamKey | None, list[bytes]] = {}
        scopes = {checkpoint.state: checkpoint.scope for checkpoint in self.model.checkpoints}
        acknowledged = []
        for checkpoint in self.ledger.ready():
            ready.setdefault(scopes[checkpoint.state], []).append(checkpoint.state)
            acknowledged.append(checkpoint)
        assert ready == {scope: [c.state for c in out] for scope, out in expected.items()}
        known = {checkpoint.state: checkpoint for checkpoint in self.model.checkpoints}
        for checkpoint in acknowledged:
            model = known[checkpoint.state]
            model.is_out = True
            fates = [row.fate for row in model.own]
            stats = {"recordCount": float(fates.count("delivered"))}
            if "rejected" in fates:
                stats["rejectedRecordCount"] = float(fates.count("rejected"))
            message = json.loads(checkpoint.acknowledge())
            assert message["state"]["destinationStats"] == stats

    @invariant()
    def pending_counts_what_waits(self) -> None:
        waiting = sum(map(len, self.ledger._queues.values()))
        assert waiting == sum(not c.is_out for c in self.model.checkpoints)


TestLedgerMachine = LedgerMachine.TestCase


def test_a_checkpoint_waits_for_each_row_before_it() -> None:
    """One unsettled row keeps its checkpoint back."""
    ledger = Ledger()
    epoch = ledger.count_read(STREAMS[0], 1)
    assert ledger.count_read(STREAMS[0], 1) is epoch
    ledger.checkpoint(b"{}", STREAMS[0])
    epoch.delivered = 1
    assert list(ledger.ready()) == []
    epoch.rejected = 1
    assert len(list(ledger.ready())) == 1


def test_a_later_checkpoint_does_not_overtake() -> None:
    """A settled checkpoint stays behind an unsettled one of its scope."""
    ledger = Ledger()
    first = ledger.count_read(STREAMS[0], 1)
    ledger.checkpoint(b'{"id":1}', STREAMS[0])
    ledger.checkpoint(b'{"id":2}', STREAMS[0])
    assert list(ledger.ready()) == []
    first.delivered = 1
    assert [c.state for c in ledger.ready()] == [b'{"id":1}', b'{"id":2}']


def test_streams_do_not_wait_for_each_other() -> None:
    """An unsettled row of one stream holds back no checkpoint of another."""
    ledger = Ledger()
    ledger.count_read(STREAMS[0], 1)
    ledger.checkpoint(b'{"id":1}', STREAMS[0])
    ledger.checkpoint(b'{"id":2}', STREAMS[2])
    assert [c.state for c in ledger.ready()] == [b'{"id":2}']


def test_a_global_checkpoint_waits_for_the_rows_of_every_stream() -> None:
    """Rows of any stream hold it back, and each row is counted by one checkpoint only."""
    ledger = Ledger()
    epochs = [ledger.count_read(stream, 1) for stream in STREAMS]
    ledger.checkpoint(b'{"id":1}', None)
    ledger.checkpoint(b'{"id":2}', None)
    for epoch in epochs:
        assert list(ledger.ready()) == []
        epoch.delivered = 1
    assert [json.loads(c.acknowledge())["state"] for c in ledger.ready()] == [
        {"id": 1, "destinationStats": {"recordCount": 3.0}},
        {"id": 2, "destinationStats": {"recordCount": 0.0}},
    ]


def test_a_global_checkpoint_waits_for_held_streams() -> None:
    """While one stream's rows wait for the end of the source, no global state leaves."""
    ledger = Ledger()
    ledger.hold(STREAMS[1])
    ledger.checkpoint(b"{}", None)
    assert list(ledger.ready()) == []
    ledger.release(STREAMS[1])
    assert len(list(ledger.ready())) == 1


@pytest.mark.parametrize("scope", [STREAMS[0], None])
def test_whether_all_is_settled_whatever_is_held(scope: StreamKey | None) -> None:
    """Rows before a state, rows after it, and rows that a state of another stream waits for."""
    ledger = Ledger()
    ledger.hold(STREAMS[0])
    epochs = [ledger.count_read(STREAMS[0], 1)]
    ledger.checkpoint(b'{"id":1}', scope)
    epochs.append(ledger.count_read(STREAMS[0], 1))
    if scope is not None:
        ledger.checkpoint(b'{"id":2}', StreamKey(None, "other"), is_known=False)
        epochs.append(ledger.count_read(STREAMS[0], 1))
    for epoch in epochs:
        assert not ledger.is_settled
        epoch.rejected = 1
    assert ledger.is_settled
    assert ledger.taken_bytes == (8 if scope is None else 16)
    assert list(ledger.ready()) == []


@pytest.mark.parametrize(
    ("first", "second"),
    [(None, STREAMS[0]), (STREAMS[0], None)],
    ids=["global-then-stream", "stream-then-global"],
)
def test_scopes_do_not_mix(first: StreamKey | None, second: StreamKey | None) -> None:
    """STREAM and GLOBAL states in one sync are an error, also when the first was acknowledged."""
    ledger = Ledger()
    ledger.checkpoint(b"{}", first)
    assert len(list(ledger.ready())) == 1
    with pytest.raises(BadInput):
        ledger.checkpoint(b"{}", second)


def test_a_state_comes_back_as_it_came() -> None:
    """Unknown keys, ids, big integers, long decimals and inner spaces survive."""
    state = (
        b'{"type":"GLOBAL","global":{"shared_state":{"lsn" : 123456789012345678901234567890},'
        b'"stream_states":[{"stream_descriptor":{"name":"\xc3\xa9","namespace":null},"stream_state":null}]},'
        b'"sourceStats":{"recordCount":2.0},"id":7,"x":1.00000000000000000000000010,"e":1E+400}'
    )
    acknowledged = Checkpoint(state, (Epoch(2, 2),)).acknowledge()
    tail = b',"destinationStats":{"recordCount":2.0}}}'
    assert acknowledged == b'{"type":"STATE","state":' + state[:-1] + tail


def test_counts_of_all_epochs_are_summed() -> None:
    """A global state counts the rows of every stream, in place of counts that came with it."""
    state = b'{"destinationStats":{"recordCount":9.0},"id":1}'
    acknowledged = Checkpoint(state, (Epoch(3, 2, 1), Epoch(4, 4))).acknowledge()
    assert json.loads(acknowledged)["state"] == {
        "destinationStats": {"recordCount": 6.0, "rejectedRecordCount": 1.0},
        "id": 1,
    }
    assert b'"recordCount":6.0' in acknowledged
