import Foundation
import NIOCore
import Raft
import Synchronization
import Testing

@testable import RaftTransport

@Suite("Snapshot streams")
struct SnapshotTests {
    private static let content: [UInt8] = {
        var random = SeededGenerator(state: 5)
        return (0..<(3 << 20)).map { _ in UInt8.random(in: 0...255, using: &random) }
    }()
    /// So slow a rate that the whole takes minutes: a transfer that is to be cut is still under way whenever the test comes to it.
    private static let trickle = 16 << 10
    private static let offer = SnapshotOffer(descriptor: [1, 2, 3], totalBytes: UInt64(content.count))

    /// The outcome of a transfer, once there is one.
    private final class Outcome: Sendable {
        let result = Mutex<[Result<Void, TransportError>]>([])

        func set(_ value: Result<Void, TransportError>) { result.withLock { $0.append(value) } }

        var code: TransportError.Code? {
            result.withLock { $0.first }.flatMap { if case .failure(let error) = $0 { error.code } else { nil } }
        }

        var refusal: SnapshotRefusal? {
            result.withLock { $0.first }.flatMap {
                if case .failure(let error) = $0 { error.snapshotRefusal } else { nil }
            }
        }

        func wait() async throws {
            try await eventually { result.withLock { !$0.isEmpty } }
            #expect(result.withLock { $0.count } == 1)
        }

        var isSuccess: Bool { result.withLock { if case .success = $0.first { true } else { false } } }
    }

    @discardableResult
    private func send(
        _ a: Node,
        _ b: Node,
        _ outcome: Outcome,
        bytesPerSecond: Int? = nil,
        read: (@Sendable (UInt64, Int) throws -> [UInt8])? = nil
    ) -> SnapshotTransfer {
        let content = Self.content
        return a.transport.sendSnapshot(
            Self.offer,
            to: ServerID(b.id),
            at: b.address.description,
            bytesPerSecond: bytesPerSecond,
            read: read ?? { offset, count in Array(content[Int(offset)..<min(content.count, Int(offset) + count)]) },
            completion: { outcome.set($0) }
        )
    }

    @Test("A snapshot arrives whole, and never with more under way than the window")
    func whole() async throws {
        let (a, b) = (try await Node(1), try await Node(2))
        try await with(a, b) {
            let outcome = Outcome()
            let (content, limits) = (Self.content, TransportLimits())
            send(a, b, outcome) { [store = b.store] offset, count in
                let underWay = Int(offset) + count - store.received([1, 2, 3])
                #expect(underWay <= limits.snapshotChunkBytes * limits.snapshotWindowChunks)
                #expect(count <= limits.snapshotChunkBytes)
                return Array(content[Int(offset)..<(Int(offset) + count)])
            }
            try await outcome.wait()
            #expect(outcome.isSuccess)
            #expect(b.store.state.withLock { $0.complete[[1, 2, 3]] } == Self.content)
            #expect(b.store.state.withLock { ($0.finished, $0.abandoned) } == (1, 0))
        }
    }

    @Test("An empty snapshot arrives too")
    func empty() async throws {
        let (a, b) = (try await Node(1), try await Node(2))
        try await with(a, b) {
            let outcome = Outcome()
            a.transport.sendSnapshot(
                SnapshotOffer(descriptor: [], totalBytes: 0),
                to: ServerID(2),
                at: b.address.description,
                read: { _, _ in [] },
                completion: { outcome.set($0) }
            )
            try await outcome.wait()
            #expect(outcome.isSuccess)
            #expect(b.store.state.withLock { $0.complete[[]] } == [])
        }
    }

    @Test("R41: a transfer resumes where it was after the receiver restarts in its middle")
    func receiverRestarts() async throws {
        let (a, b) = (try await Node(1), try await Node(2))
        try await with(a, b) {
            let broken = Outcome()
            send(a, b, broken, bytesPerSecond: Self.trickle)
            try await eventually { b.store.received([1, 2, 3]) > 0 }
            await b.transport.shutdown()
            try await broken.wait()
            #expect(broken.code == .disconnected)
            try await eventually { b.store.state.withLock { $0.abandoned } == 1 }
            let kept = b.store.received([1, 2, 3])
            let again = try await Node(2, store: b.store)
            try await with(again) {
                let outcome = Outcome()
                send(a, again, outcome)
                try await outcome.wait()
                #expect(outcome.isSuccess)
                #expect(b.store.state.withLock { $0.resumedAt } == [0, UInt64(kept)])
                #expect(kept > 0 && kept < Self.content.count)
                #expect(b.store.state.withLock { $0.complete[[1, 2, 3]] } == Self.content)
            }
        }
    }

    @Test("R41: a transfer resumes where it was after the sender restarts in its middle")
    func senderRestarts() async throws {
        let (a, b, again) = (try await Node(1), try await Node(2), try await Node(1))
        try await with(a, b, again) {
            let broken = Outcome()
            send(a, b, broken, bytesPerSecond: Self.trickle)
            try await eventually { b.store.received([1, 2, 3]) > 0 }
            await a.transport.shutdown()
            #expect(broken.code == .cancelled)
            let outcome = Outcome()
            send(again, b, outcome)
            try await outcome.wait()
            #expect(outcome.isSuccess)
            #expect(b.store.state.withLock { $0.resumedAt.count } == 2)
            #expect(b.store.state.withLock { $0.resumedAt.last ?? 0 } > 0)
            #expect(b.store.state.withLock { $0.complete[[1, 2, 3]] } == Self.content)
        }
    }

    @Test("A transfer that is cancelled ends at both sides")
    func cancelled() async throws {
        let (a, b) = (try await Node(1), try await Node(2))
        try await with(a, b) {
            let outcome = Outcome()
            let transfer = send(a, b, outcome, bytesPerSecond: Self.trickle)
            try await eventually { b.store.received([1, 2, 3]) > 0 }
            transfer.cancel()
            transfer.cancel()
            try await outcome.wait()
            #expect(outcome.code == .cancelled)
            try await eventually { b.store.state.withLock { $0.abandoned } == 1 }
            #expect(b.store.state.withLock { $0.finished } == 0)
        }
    }

    @Test("A receiver may refuse at once, fail in the middle, or find the whole damaged")
    func refusals() async throws {
        let (a, b) = (try await Node(1), try await Node(2))
        try await with(a, b) {
            for step in 0..<3 {
                b.store.state.withLock { state in
                    state = SnapshotStore.State()
                    state.refuses = step == 0
                    state.failsBehind = step == 1 ? 1 << 20 : .max
                    state.rejectsAtEnd = step == 2
                }
                let outcome = Outcome()
                send(a, b, outcome)
                try await outcome.wait()
                #expect(outcome.code == .snapshotRefused)
                #expect(outcome.refusal?.kind == [.unknownFormat, .unavailable, .damaged][step])
                try await eventually {
                    b.store.state.withLock { ($0.abandoned, $0.finished) } == (step == 1 ? 1 : 0, step == 2 ? 1 : 0)
                }
            }
        }
    }

    @Test("A source that fails or is too short ends the transfer, and the receiver keeps what it has")
    func sourceFails() async throws {
        let (a, b) = (try await Node(1), try await Node(2))
        try await with(a, b) {
            for isShort in [true, false] {
                let outcome = Outcome()
                send(a, b, outcome) { offset, count in
                    if offset < 1 << 20 { return [UInt8](repeating: 1, count: count) }
                    if isShort { return [] }
                    throw TimedOut()
                }
                try await outcome.wait()
                #expect(outcome.code == .readFailed)
            }
            try await eventually { b.store.state.withLock { $0.abandoned } == 2 }
        }
    }

    @Test("Nobody there, another server there, a cut, and a transport that is shut down are told apart")
    func unreachable() async throws {
        let (a, b, other) = (try await Node(1), try await Node(2), try await Node(3))
        try await with(a, b, other) {
            let wrong = Outcome()
            a.transport.sendSnapshot(
                Self.offer,
                to: ServerID(2),
                at: other.address.description,
                read: { _, _ in [] },
                completion: { wrong.set($0) }
            )
            try await wrong.wait()
            #expect(wrong.code == .handshakeRefused)
            let cut = Outcome()
            send(a, b, cut, bytesPerSecond: Self.trickle)
            try await eventually { b.store.received([1, 2, 3]) > 0 }
            try await b.onLoop { $0.setBlocked([ServerID(1)]) }
            try await cut.wait()
            #expect(cut.code == .disconnected)
            await b.transport.shutdown()
            let gone = Outcome()
            send(a, b, gone)
            try await gone.wait()
            #expect(gone.code == .unreachable)
            await a.transport.shutdown()
            let stopped = Outcome()
            send(a, b, stopped)
            try await stopped.wait()
            #expect(stopped.code == .cancelled)
        }
    }

    @Test("A stream that falls silent is given up by both sides")
    func silent() async throws {
        var limits = TransportLimits()
        limits.snapshotIdleTimeout = .milliseconds(100)
        let (a, b) = (try await Node(1, limits: limits), try await Node(2))
        let hung = try await HungPeer(3)
        try await with(a, b) {
            let outcome = Outcome()
            a.transport.sendSnapshot(
                Self.offer,
                to: ServerID(3),
                at: "127.0.0.1:\(hung.port)",
                read: { _, _ in [] },
                completion: { outcome.set($0) }
            )
            try await outcome.wait()
            #expect(outcome.code == .timedOut)
            let client = try await RawClient(a.address)
            // In one piece: between two, the silence could be long enough already.
            var bytes = Handshake.Hello(purpose: .snapshot, sender: identity(2), expected: ServerID(1)).encode()
            bytes.writeImmutableBuffer(
                Frame.make(.snapshotOffer) { buffer in
                    buffer.write(UInt64(100))
                    buffer.writeCounted([9])
                }
            )
            client.send(bytes)
            try await eventually { client.closed }
            try await eventually { a.store.state.withLock { $0.abandoned } == 1 }
        }
        try await hung.close()
    }

    @Test("Work of several streams runs one piece at a time and in order")
    func serialWork() async throws {
        let order = Mutex<[Int]>([])
        let running = Atomic(0)
        let work = SerialWork { piece in
            Task.detached { piece() }
            return true
        }
        for number in 0..<500 {
            let isTaken = work.submit {
                #expect(running.add(1, ordering: .sequentiallyConsistent).newValue == 1)
                order.withLock { $0.append(number) }
                running.subtract(1, ordering: .sequentiallyConsistent)
            }
            #expect(isTaken)
        }
        try await eventually { order.withLock { $0.count } == 500 }
        #expect(order.withLock { $0 } == Array(0..<500))
    }

    @Test("Work that the executor does not take is refused, not run; what was taken runs to its end all the same")
    func refusedWork() {
        let accepts = Mutex(false)
        let order = Mutex<[Int]>([])
        let work = SerialWork { piece in
            let isTaken = accepts.withLock { accepts in
                defer { accepts = false }
                return accepts
            }
            if isTaken { Thread.detachNewThread { piece() } }
            return isTaken
        }
        #expect(!work.submit { order.withLock { $0.append(0) } })
        accepts.withLock { $0 = true }
        let (gate, end) = (DispatchSemaphore(value: 0), DispatchSemaphore(value: 0))
        let isTaken = work.submit {
            gate.wait()
            order.withLock { $0.append(1) }
        }
        #expect(isTaken)
        // The executor takes nothing more; what waits for its turn is run by the thread that is at it.
        for number in 2...8 { #expect(work.submit { order.withLock { $0.append(number) } }) }
        #expect(work.submit { end.signal() })
        gate.signal()
        end.wait()
        #expect(order.withLock { $0 } == Array(1...8))
    }

    @Test(
        "A side without a thread for the work ends the stream and says so, and does the work on no event loop",
        arguments: [1, 2]
    )
    func noThread(busy: UInt64) async throws {
        let refuses: BlockingExecutor = { _ in false }
        let a = try await Node(1, executor: busy == 1 ? refuses : Node.threadPool)
        let b = try await Node(2, executor: busy == 2 ? refuses : Node.threadPool)
        try await with(a, b) {
            let outcome = Outcome()
            send(a, b, outcome) { _, _ in
                Issue.record("read on an event loop")
                return []
            }
            try await outcome.wait()
            #expect(outcome.code == (busy == 1 ? .busy : .snapshotRefused))
            #expect(outcome.refusal?.kind == (busy == 1 ? nil : .unavailable))
            #expect(b.store.state.withLock { $0.resumedAt } == (busy == 1 ? [0] : []))
        }
    }
}
