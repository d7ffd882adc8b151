import NIOCore
import NIOPosix
import Synchronization
import Testing

@testable import KeyValueService

@Suite("Shared timers", .timeLimit(.minutes(1)))
struct SharedTimersTests {
    @Test("Those that are due come, on their loop and not before their time; those that are given up do not")
    func due() async throws {
        let loop = MultiThreadedEventLoopGroup.singleton.next()
        let timers = SharedTimers(eventLoop: loop)
        let called = Mutex<[Int]>([])
        // On the loop, so that nothing comes meanwhile.
        let past = try await loop.submit {
            let start = NIODeadline.now()
            let made = (0..<1_000).map { number in
                let deadline = start + .milliseconds(Int64(number % 3) * 30)
                return timers.schedule(at: deadline) {
                    #expect(loop.inEventLoop)
                    #expect(NIODeadline.now() >= deadline)
                    called.withLock { $0.append(number) }
                }
            }
            let never = timers.schedule(at: .distantFuture) { called.withLock { $0.append(-1) } }
            for timer in [never] + made.enumerated().filter({ $0.offset % 10 == 0 }).map(\.element) {
                timers.cancel(timer)
            }
            return timers.schedule(at: start - .seconds(1)) { called.withLock { $0.append(1_000) } }
        }.get()
        try await eventually { called.withLock { $0.count } >= 901 }
        // What is over can be given up, too.
        timers.cancel(past)
        #expect(called.withLock { $0.sorted() } == (0...1_000).filter { $0 % 10 != 0 || $0 == 1_000 })
    }

    @Test("One that is called gives up another one of the same moment")
    func together() async throws {
        let loop = MultiThreadedEventLoopGroup.singleton.next()
        let timers = SharedTimers(eventLoop: loop)
        let calls = Atomic(0)
        let isOver = Atomic(false)
        let pair = Mutex<[SharedTimers.Timer]>([])
        try await loop.submit {
            let deadline = NIODeadline.now() + .milliseconds(50)
            for _ in 0..<2 {
                let timer = timers.schedule(at: deadline) {
                    calls.add(1, ordering: .relaxed)
                    for timer in pair.withLock({ $0 }) { timers.cancel(timer) }
                }
                pair.withLock { $0.append(timer) }
            }
            _ = timers.schedule(at: deadline + .milliseconds(50)) { isOver.store(true, ordering: .relaxed) }
        }.get()
        try await eventually { isOver.load(ordering: .relaxed) }
        #expect(calls.load(ordering: .relaxed) == 1)
    }
}
