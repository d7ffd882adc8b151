import Raft
import Synchronization

@testable import RaftTransport

/// Takes snapshots in, in memory; it outlives the transport, as files outlive a process.
final class SnapshotStore: SnapshotReceiver {
    struct Failure: Error {}

    struct State {
        /// What came so far, by descriptor.
        var partial: [[UInt8]: [UInt8]] = [:]
        var complete: [[UInt8]: [UInt8]] = [:]
        var resumedAt: [UInt64] = []
        var abandoned = 0
        var finished = 0
        var refuses = false
        var rejectsAtEnd = false
        var failsBehind = Int.max
    }

    let state = Mutex(State())

    func begin(_ offer: SnapshotOffer, from peer: ServerIdentity) throws -> SnapshotAdmission {
        state.withLock { state in
            if state.refuses { return .refused(SnapshotRefusal(.unknownFormat, "not wanted")) }
            let offset = UInt64(state.partial[offer.descriptor, default: []].count)
            state.resumedAt.append(offset)
            return .accepted(Sink(store: self, descriptor: offer.descriptor), resumeAt: offset)
        }
    }

    func received(_ descriptor: [UInt8]) -> Int { state.withLock { $0.partial[descriptor]?.count ?? 0 } }

    private struct Sink: SnapshotSink {
        let store: SnapshotStore
        let descriptor: [UInt8]

        func write(_ bytes: [UInt8], at offset: UInt64) throws {
            try store.state.withLock { state in
                guard Int(offset) == state.partial[descriptor, default: []].count, Int(offset) < state.failsBehind
                else { throw Failure() }
                state.partial[descriptor, default: []] += bytes
            }
        }

        func finish() throws -> SnapshotVerdict {
            store.state.withLock { state in
                state.finished += 1
                let bytes = state.partial.removeValue(forKey: descriptor) ?? []
                guard !state.rejectsAtEnd else { return .refused(SnapshotRefusal(.damaged, "not what was written")) }
                state.complete[descriptor] = bytes
                return .accepted
            }
        }

        func abandon() { store.state.withLock { $0.abandoned += 1 } }
    }
}
