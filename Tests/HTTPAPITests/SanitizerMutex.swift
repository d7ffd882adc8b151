#if KONTIKI_THREAD_SANITIZER
    import Glibc

    /// Stands in for `Synchronization.Mutex` in builds for the thread sanitizer, which does not see that one's slow path: it waits in
    /// a system call of its own, inside a library that is not instrumented, and every contended lock would be reported as a race.
    /// A mutex of the system's threads is known to the sanitizer. The file is linked into each module, where the name shadows the other.
    struct Mutex<Value: ~Copyable>: ~Copyable {
        private final class Storage {
            let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
            var value: Value

            init(_ value: consuming sending Value) {
                pthread_mutex_init(mutex, nil)
                self.value = value
            }

            deinit {
                pthread_mutex_destroy(mutex)
                mutex.deallocate()
            }
        }

        private let storage: Storage

        init(_ value: consuming sending Value) { storage = Storage(value) }

        borrowing func withLock<Result: ~Copyable, Failure: Error>(
            _ body: (inout sending Value) throws(Failure) -> sending Result
        ) throws(Failure) -> sending Result {
            pthread_mutex_lock(storage.mutex)
            defer { pthread_mutex_unlock(storage.mutex) }
            return try body(&storage.value)
        }
    }

    /// Sound to share because the value is touched under the lock only.
    extension Mutex: @unchecked Sendable where Value: ~Copyable {}
#endif
