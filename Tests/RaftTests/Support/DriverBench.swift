import RaftDriver

@testable import Raft

/// One driver on the bench: a ``Bench`` core in it, the shell played by hand.
struct DriverBench {
    var driver: Driver

    /// Small bounds, so that every decision of the driver is within reach of a few entries; nothing is left in the cache that need not be.
    static var tight: DriverOptions {
        var options = DriverOptions()
        options.cacheBytes = 0
        options.trailingLogBytes = 0
        options.promotionLag = 2
        return options
    }

    init(_ bench: Bench = Bench(), options: DriverOptions = tight, snapshotIndex: LogIndex = 0) {
        driver = Driver(core: bench.core, options: options, snapshotIndex: snapshotIndex, snapshotBytes: 0)
    }

    var core: Core { driver.core }

    @discardableResult
    mutating func act(_ body: (inout Driver, inout Driver.Actions) -> Void) -> Driver.Actions {
        var actions = Driver.Actions()
        body(&driver, &actions)
        return actions
    }

    @discardableResult
    mutating func step(_ events: Event...) -> Driver.Actions { act { $0.step(events, into: &$1) } }

    @discardableResult
    mutating func receive(_ from: Int, term: Term? = nil, _ body: Message.Body) -> Driver.Actions {
        step(.message(Message(from: server(from), to: core.id, term: term ?? core.term, body: body)))
    }

    /// An append of leader 2 to this follower.
    @discardableResult
    mutating func append(
        from leader: Int = 2,
        term: Term? = nil,
        behind previous: LogPosition,
        _ entries: [Entry] = [],
        commit: LogIndex = 0
    ) -> Driver.Actions {
        let append = Append(previous: previous, entries: entries, commit: commit, session: 99, round: 0)
        return receive(leader, term: term, .append(append))
    }

    @discardableResult
    mutating func acknowledge(_ number: Int, _ match: LogIndex) -> Driver.Actions {
        let session = core.progress(server(number))?.session ?? 0
        return receive(
            number,
            .appendResponse(AppendResponse(result: .accepted(match: match), session: session, round: 0))
        )
    }

    @discardableResult
    mutating func reject(_ number: Int, at rejected: LogIndex, hint: LogPosition) -> Driver.Actions {
        let session = core.progress(server(number))?.session ?? 0
        let result = AppendResponse.Result.rejected(rejected: rejected, hint: hint)
        return receive(number, .appendResponse(AppendResponse(result: result, session: session, round: 0)))
    }

    @discardableResult
    mutating func persist() -> Driver.Actions { step(.persisted(upTo: core.lastSequence)) }

    /// The machine has applied `entries`.
    @discardableResult
    mutating func applied(_ entries: [Entry], unflushedBytes: Int = 0) -> Driver.Actions {
        let bytes = entries.reduce(0) { $0 + $1.size }
        return act { $0.applied(entries.last!.index, bytes: bytes, unflushedBytes: unflushedBytes, into: &$1) }
    }

    @discardableResult
    mutating func fetched(_ purpose: Driver.Fetch, _ entries: [Entry]?) -> Driver.Actions {
        act { $0.fetched(purpose, entries: entries, into: &$1) }
    }
}

extension Driver.Actions {
    /// The appends that go to `number`.
    func appends(to number: Int) -> [Append] {
        messages.compactMap {
            if $0.to == server(number), case .append(let append) = $0.body { return append }
            return nil
        }
    }

    var acknowledged: [LogIndex] {
        messages.compactMap {
            if case .appendResponse(let response) = $0.body, case .accepted(let match) = response.result {
                return match
            }
            return nil
        }
    }
}
