import NIOCore
import NIOPosix
import RaftNode
import Synchronization
import Testing

@testable import KeyValueService

@Suite("Requests under way", .timeLimit(.minutes(5)))
struct OperationTests {
    /// Counts what becomes of operations.
    private final class Ledger: Sendable {
        let submissions = Mutex(0)
        let errors = Mutex<[ServiceError]>([])

        func operation(
            after timeout: TimeAmount,
            bytes: Int = 0,
            isWrite: Bool = true,
            submit: @escaping @Sendable (Operation) -> Void = { _ in }
        ) -> Operation {
            Operation(
                deadline: .now() + timeout,
                bytes: bytes,
                isWrite: isWrite,
                submit: { operation in
                    self.submissions.withLock { $0 += 1 }
                    submit(operation)
                },
                fail: { error in self.errors.withLock { $0.append(error) } }
            )
        }
    }

    private func table(_ maximumCount: Int = 10, _ maximumBytes: Int = 1_000) -> OperationTable {
        OperationTable(
            eventLoop: MultiThreadedEventLoopGroup.singleton.next(),
            maximumCount: maximumCount,
            maximumBytes: maximumBytes
        )
    }

    @Test("A write that gets no answer in time may have been executed, a read cannot have been")
    func timeouts() async throws {
        let table = table()
        let ledger = Ledger()
        let write = ledger.operation(after: .milliseconds(20))
        let read = ledger.operation(after: .milliseconds(20), isWrite: false)
        // On the loop whose clock ends them.
        let count = try await table.eventLoop.submit {
            table.start(write)
            table.start(read)
            return table.count
        }.get()
        #expect(count == 2)
        try await eventually { ledger.errors.withLock { $0.count } == 2 }
        #expect(
            Set(ledger.errors.withLock { $0 })
                == [ServiceError(.timedOut, mayHaveExecuted: true), ServiceError(.timedOut)]
        )
        #expect(table.count == 0)
        // The answer that comes too late is nobody's.
        #expect(!table.finish(write))
    }

    @Test("What was certainly not executed is tried again, and then fails as not executed")
    func retries() async throws {
        let table = table()
        var time: Int64 = 200
        var submissions = 0
        // On a busy machine the time may be over before there was any for another try.
        repeat {
            let ledger = Ledger()
            let operation = ledger.operation(after: .milliseconds(time)) { operation in
                table.reject(operation, Rejection(.noLeader))
            }
            // On the loop, where the clock cannot come between the start and the first rejection.
            try await table.eventLoop.submit { table.start(operation) }.get()
            try await eventually { !ledger.errors.withLock { $0 }.isEmpty }
            #expect(ledger.errors.withLock { $0 } == [ServiceError(.noLeader)])
            submissions = ledger.submissions.withLock { $0 }
            time *= 3
        } while submissions < 3 && time < 20_000
        #expect(submissions > 2)
    }

    @Test("A retry that succeeds is all the caller sees")
    func succeedingRetry() async throws {
        let table = table()
        let ledger = Ledger()
        let finished = Mutex(0)
        table.start(
            ledger.operation(after: .seconds(60)) { operation in
                if ledger.submissions.withLock({ $0 }) < 3 {
                    table.reject(operation, Rejection(.leadershipChanging))
                } else if table.finish(operation) {
                    finished.withLock { $0 += 1 }
                }
            }
        )
        try await eventually { finished.withLock { $0 } == 1 }
        #expect(ledger.submissions.withLock { $0 } == 3)
        #expect(ledger.errors.withLock { $0 } == [])
    }

    @Test(
        "A full disk, a full queue and a stop are told at once",
        arguments: [
            Rejection.Reason.overloaded, .storageFull, .shuttingDown,
        ]
    )
    func noRetry(_ reason: Rejection.Reason) {
        let table = table()
        let ledger = Ledger()
        table.start(ledger.operation(after: .seconds(60)) { table.reject($0, Rejection(reason)) })
        #expect(ledger.submissions.withLock { $0 } == 1)
        #expect(ledger.errors.withLock { $0 } == [ServiceError(Rejection(reason))])
    }

    @Test("Count and bytes are bounded, and what is finished makes room")
    func bounds() {
        let table = table(2, 100)
        let ledger = Ledger()
        let first = ledger.operation(after: .seconds(60), bytes: 60)
        table.start(first)
        table.start(ledger.operation(after: .seconds(60), bytes: 60))
        #expect(ledger.errors.withLock { $0 } == [ServiceError(.overloaded)])
        let second = ledger.operation(after: .seconds(60), bytes: 40)
        table.start(second)
        table.start(ledger.operation(after: .seconds(60)))
        #expect(ledger.errors.withLock { $0.count } == 2)
        #expect(table.finish(first))
        #expect(!table.finish(first))
        let third = ledger.operation(after: .seconds(60), bytes: 60)
        table.start(third)
        #expect(ledger.submissions.withLock { $0 } == 3)
        #expect(table.finish(second))
        #expect(table.finish(third))
        #expect(table.count == 0)
    }

    @Test("A closed table takes nothing in and retries nothing")
    func closed() async throws {
        let table = table()
        let ledger = Ledger()
        table.start(ledger.operation(after: .seconds(60)) { table.reject($0, Rejection(.noLeader)) })
        table.close()
        table.start(ledger.operation(after: .seconds(60)))
        try await eventually { ledger.errors.withLock { $0.count } == 2 }
        #expect(Set(ledger.errors.withLock { $0.map(\.code) }) == [.noLeader, .shuttingDown])
    }

    @Test("Every operation ends once, whoever is first: the answers, the clock, or both")
    func race() async throws {
        let table = table(100_000, 1_000_000)
        let ledger = Ledger()
        let finished = Atomic<Int>(0)
        let count = 4_000
        for number in 0..<count {
            let timeout = TimeAmount.milliseconds(Int64(1 + number % 40))
            table.start(
                ledger.operation(after: timeout) { operation in
                    MultiThreadedEventLoopGroup.singleton.next().scheduleTask(in: timeout) {
                        switch number % 3 {
                        case 0: table.reject(operation, Rejection(.superseded))
                        default: if table.finish(operation) { finished.add(1, ordering: .relaxed) }
                        }
                    }
                }
            )
        }
        try await eventually { table.count == 0 }
        try await eventually {
            ledger.errors.withLock { $0.count } + finished.load(ordering: .relaxed) == count
        }
    }
}
