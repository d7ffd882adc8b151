internal import Synchronization

/// A mutex with the value that it guards.
///
/// A `Synchronization.Mutex` that is contended is handed over by the kernel, which the thread sanitizer does not see, so that
/// it takes every such hand-over for a race. The release and acquire of `turn` inside the lock say the same in a way that it
/// sees; they cost two plain moves.
struct Guarded<Value>: ~Copyable, Sendable {
    private let mutex: Mutex<Value>
    private let turn = Atomic(0)

    init(_ value: sending Value) { mutex = Mutex(value) }

    func withLock<Result: ~Copyable, Failure: Error>(
        _ body: (inout sending Value) throws(Failure) -> sending Result
    ) throws(Failure) -> sending Result {
        try mutex.withLock { (value: inout sending Value) throws(Failure) -> sending Result in
            _ = turn.load(ordering: .acquiring)
            defer { turn.store(0, ordering: .releasing) }
            return try body(&value)
        }
    }
}
