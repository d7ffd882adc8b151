import NIOCore
import Synchronization
import Testing

@testable import KeyValueService

@Suite("The clock that bounded reads trust")
struct ElapsedClockTests {
    /// Two clocks that a test moves.
    private final class Hands: Sendable {
        private let times = Mutex((boot: UInt64(5_000_000_000), wall: UInt64(1_700_000_000_000_000_000)))

        func move(boot: UInt64 = 0, wall: Int64 = 0) {
            times.withLock { times in
                times.boot += boot
                times.wall = UInt64(Int64(times.wall) + wall)
            }
        }

        var boot: UInt64 { times.withLock { $0.boot } }
        var wall: UInt64 { times.withLock { $0.wall } }

        var clock: ElapsedClock { ElapsedClock(boot: { self.boot }, wall: { self.wall }) }
    }

    private static let second: UInt64 = 1_000_000_000

    @Test("While both clocks run, it is the one that counts suspension")
    func bothRun() {
        let hands = Hands()
        let clock = hands.clock
        let start = clock.nanoseconds
        hands.move(boot: 3 * Self.second, wall: 3_000_000_000)
        #expect(clock.nanoseconds == start + 3 * Self.second)
        hands.move(boot: Self.second, wall: 1_004_000_000)
        #expect(clock.nanoseconds == start + 4 * Self.second, "a small difference is no pause")
    }

    @Test("A pause that only the wall clock tells of has passed, once")
    func pause() {
        let hands = Hands()
        let clock = hands.clock
        let start = clock.nanoseconds
        hands.move(boot: Self.second, wall: 61_000_000_000)
        #expect(clock.nanoseconds == start + 61 * Self.second)
        #expect(clock.nanoseconds == start + 61 * Self.second)
        hands.move(boot: Self.second, wall: 1_000_000_000)
        #expect(clock.nanoseconds == start + 62 * Self.second)
    }

    @Test("Small steps add up until they count")
    func smallSteps() {
        let hands = Hands()
        let clock = hands.clock
        let start = clock.nanoseconds
        for _ in 0..<100 {
            hands.move(boot: 1_000_000, wall: 2_000_000)
            let passed = clock.nanoseconds - start
            #expect(passed + UInt64(ElapsedClock.tolerance) >= hands.wall - 1_700_000_000_000_000_000)
        }
    }

    @Test("A wall clock that is set back takes nothing away, and a pause behind it is seen all the same")
    func setBack() {
        let hands = Hands()
        let clock = hands.clock
        let start = clock.nanoseconds
        hands.move(boot: Self.second, wall: -3_600_000_000_000)
        #expect(clock.nanoseconds == start + Self.second)
        hands.move(boot: Self.second, wall: 31_000_000_000)
        #expect(clock.nanoseconds == start + 32 * Self.second)
    }

    @Test("It never goes back, on any thread, while the wall clock is set to and fro")
    func manyThreads() async {
        let hands = Hands()
        let clock = hands.clock
        await withTaskGroup { group in
            for _ in 0..<4 {
                group.addTask {
                    var last: UInt64 = 0
                    for _ in 0..<5_000 {
                        let now = clock.nanoseconds
                        #expect(now >= last)
                        last = now
                    }
                }
            }
            group.addTask {
                for number in 0..<500 {
                    hands.move(boot: 10_000, wall: number.isMultiple(of: 2) ? 50_000_000 : -49_000_000)
                    await Task.yield()
                }
            }
        }
    }

    @Test("What was proven before a pause is as old as the pause: a bounded read is proven anew")
    func boundedRead() throws {
        let hands = Hands()
        let clock = hands.clock
        let freshness = Freshness(nanoseconds: { clock.nanoseconds })
        let reads = BoundedReads(freshness: freshness, maximumCount: 10)
        freshness.prove(asOf: freshness.now)
        hands.move(boot: 100_000_000, wall: 100_000_000)
        #expect(reads.permit(.milliseconds(500))?.stalenessMilliseconds == 100)
        // A hypervisor's pause of 30 seconds, behind which the wall clock was set right.
        hands.move(boot: 100_000_000, wall: 30_100_000_000)
        #expect(reads.permit(.milliseconds(500)) == nil)
        #expect(reads.permit(.seconds(31))?.stalenessMilliseconds == 30_200)
        let answer = Mutex<Result<ReadPermit, ServiceError>?>(nil)
        reads.confirm(
            .milliseconds(500),
            deadline: .now() + .seconds(5),
            ask: { _, completion in
                freshness.prove(asOf: freshness.now)
                completion(.success(7))
            },
            completion: { result in answer.withLock { $0 = result } }
        )
        #expect(try answer.withLock { try $0?.get().stalenessMilliseconds } == 0)
    }
}
