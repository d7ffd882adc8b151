internal import Glibc
internal import Synchronization

/// A thread that runs jobs one after the other, for work that blocks on disks.
package final class WorkerThread: Sendable {
    package typealias Job = @Sendable () -> Void

    private let jobs: WorkQueue<Job>
    private let thread: Thread
    private let capacity: Int

    /// - Parameters:
    ///   - name: shown by the system's tools; 15 bytes of it count.
    ///   - capacity: how many jobs may wait.
    package init(name: String, capacity: Int) {
        let jobs = WorkQueue<Job>()
        self.jobs = jobs
        self.capacity = capacity
        thread = Thread(name: name) {
            while let waiting = jobs.takeAll() {
                for job in waiting {
                    job()
                    jobs.finished(1)
                }
            }
        }
    }

    deinit { jobs.close() }

    /// Queues a job behind the others. False, and the job is dropped, when the queue is full or was shut down.
    package func submit(_ job: @escaping Job) -> Bool { jobs.append(job, limit: capacity) }

    /// Jobs that wait or run.
    package var waiting: Int { jobs.count }

    /// Takes no more jobs, runs those that wait, and returns when the thread has ended. Not to be called by a job.
    package func shutdown() {
        jobs.close()
        thread.join()
    }
}

/// Hands work to one thread, and wakes it only when it sleeps.
final class WorkQueue<Element: Sendable>: Sendable {
    private struct State {
        var elements: [Element] = []
        /// Those taken and not finished.
        var running = 0
        var isClosed = false
        var isAsleep = false
    }

    private let state = Mutex(State())
    private let alarm = Semaphore()

    var count: Int { state.withLock { $0.elements.count + $0.running } }

    /// Whether nothing waits to be taken.
    var isEmpty: Bool { state.withLock { $0.elements.isEmpty } }

    /// Whether nothing is accepted any more.
    var isClosed: Bool { state.withLock { $0.isClosed } }

    /// False when `limit` elements wait or run already, or the queue is closed.
    func append(_ element: Element, limit: Int = .max) -> Bool {
        let (isAccepted, wakes) = state.withLock { state in
            guard !state.isClosed, state.elements.count + state.running < limit else { return (false, false) }
            state.elements.append(element)
            defer { state.isAsleep = false }
            return (true, state.isAsleep)
        }
        if wakes { alarm.signal() }
        return isAccepted
    }

    /// Nothing is accepted any more; the thread gets what waits and then nil.
    func close() {
        let wakes = state.withLock { state in
            state.isClosed = true
            defer { state.isAsleep = false }
            return state.isAsleep
        }
        if wakes { alarm.signal() }
    }

    /// All that waits, without waiting for anything.
    func takeWaiting() -> [Element] { state.withLock { Self.take(&$0) } }

    /// All that waits; sleeps until something does. Nil when the queue is closed and empty. Call ``finished(_:)``
    /// after.
    func takeAll() -> [Element]? {
        while true {
            let (elements, isClosed) = state.withLock { state in
                let elements = Self.take(&state)
                state.isAsleep = elements.isEmpty && !state.isClosed
                return (elements, state.isClosed)
            }
            if !elements.isEmpty { return elements }
            if isClosed { return nil }
            alarm.wait()
        }
    }

    func finished(_ count: Int) { state.withLock { $0.running -= count } }

    private static func take(_ state: inout State) -> [Element] {
        defer { state.elements.removeAll(keepingCapacity: false) }
        state.running += state.elements.count
        return state.elements
    }
}

/// A counting semaphore of the system.
private final class Semaphore: Sendable {
    /// Sound to share: the memory lives as long as the semaphore does, and only `sem_*` touch it.
    nonisolated(unsafe) private let pointer: UnsafeMutablePointer<sem_t>

    init() {
        pointer = .allocate(capacity: 1)
        let result = sem_init(pointer, 0, 0)
        precondition(result == 0, "sem_init fails only for values out of range")
    }

    deinit {
        sem_destroy(pointer)
        pointer.deallocate()
    }

    func signal() { sem_post(pointer) }

    func wait() {
        // Signals interrupt it.
        while sem_wait(pointer) != 0 {}
    }
}

/// One thread of the system.
final class Thread: Sendable {
    private final class Start {
        let name: String
        let body: @Sendable () -> Void

        init(name: String, body: @escaping @Sendable () -> Void) {
            self.name = name
            self.body = body
        }

        /// Only a help for those who look at the process; the calls made for it are not in Swift's Glibc.
        func nameThread() {
            let descriptor = open("/proc/thread-self/comm", O_WRONLY | O_CLOEXEC)
            guard descriptor >= 0 else { return }
            let bytes = Array(name.utf8)
            _ = Glibc.write(descriptor, bytes, bytes.count)
            Glibc.close(descriptor)
        }
    }

    private let identifier: UInt
    private let isJoined = Mutex(false)

    init(name: String, _ body: @escaping @Sendable () -> Void) {
        let start = Unmanaged.passRetained(
            Start(name: String(decoding: name.utf8.prefix(15), as: UTF8.self), body: body)
        )
        var thread = pthread_t()
        let result = pthread_create(
            &thread,
            nil,
            { argument in
                guard let argument else { return nil }
                let start = Unmanaged<Start>.fromOpaque(argument).takeRetainedValue()
                start.nameThread()
                start.body()
                return nil
            },
            start.toOpaque()
        )
        precondition(result == 0, "the system gives no more threads; raise the limit on tasks of this service")
        identifier = UInt(thread)
    }

    deinit {
        isJoined.withLock { if !$0 { pthread_detach(pthread_t(identifier)) } }
    }

    var isCurrent: Bool { pthread_self() == pthread_t(identifier) }

    /// Waits until the thread has ended.
    func join() {
        precondition(!isCurrent, "a thread cannot wait for its own end")
        isJoined.withLock { isJoined in
            if !isJoined { pthread_join(pthread_t(identifier), nil) }
            isJoined = true
        }
    }
}
