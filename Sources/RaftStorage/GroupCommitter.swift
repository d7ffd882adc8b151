package import Raft
internal import Synchronization

/// Makes the core's writes durable on an own thread: whatever waits when the disk is free goes into one transaction.
///
/// It never waits to fill a group: under load the groups grow by themselves while the disk works. After a failure
/// nothing more is written (R6).
package final class GroupCommitter: Sendable {
    /// What one commit took, for metrics.
    package struct Commit: Sendable {
        /// The last write that it made durable.
        package var sequence: WriteSequence
        package var writes: Int
        package var entries: Int
        /// The entries' sizes, in bytes.
        package var bytes: Int
        /// From the start of the transaction until it was durable.
        package var duration: Duration
    }

    /// What waits or is being written.
    package struct Backlog: Hashable, Sendable {
        package var writes = 0
        package var bytes = 0
    }

    /// The most entry bytes of one transaction; LMDB keeps all its pages in memory.
    private static let maxGroupBytes = 64 << 20

    private let queue = WorkQueue<StorageWrite>()
    private let waiting = Mutex(Backlog())
    private let thread: Mutex<Thread?> = Mutex(nil)

    private let store: LogStore
    private let onPersisted: @Sendable (WriteSequence) -> Void
    private let onFailure: @Sendable (StorageError) -> Void
    private let onCommit: @Sendable (Commit) -> Void

    /// Starts the thread. The closures are called on it.
    ///
    /// - Parameters:
    ///   - onPersisted: all writes up to this one are durable.
    ///   - onFailure: called once, and no other closure after it. What was reported as persisted is, nothing else may
    ///     be taken to be.
    ///   - onCommit: called before `onPersisted` with what the commit took.
    package init(
        store: LogStore,
        onPersisted: @escaping @Sendable (WriteSequence) -> Void,
        onFailure: @escaping @Sendable (StorageError) -> Void,
        onCommit: @escaping @Sendable (Commit) -> Void = { _ in }
    ) {
        self.store = store
        self.onPersisted = onPersisted
        self.onFailure = onFailure
        self.onCommit = onCommit
        let started = Thread(name: "kontiki-log") { self.run() }
        thread.withLock { $0 = started }
    }

    /// Queues a write behind the others; wakes the thread only when it sleeps. Dropped after a failure or
    /// ``shutdown()``.
    package func submit(_ write: StorageWrite) {
        let size = write.appendedBytes
        waiting.withLock {
            $0.writes += 1
            $0.bytes += size
        }
        if !queue.append(write) { finish([write]) }
    }

    /// What waits or is being written: the driver refuses proposals when it grows too much.
    package var backlog: Backlog { waiting.withLock { $0 } }

    /// Writes what waits, and returns when the thread has ended. Must be called before the last reference goes; not
    /// from the closures.
    package func shutdown() {
        queue.close()
        thread.withLock { $0?.join() }
    }

    private func run() {
        while let writes = queue.takeAll() {
            var rest = writes[...]
            while !rest.isEmpty {
                let group = Self.takeGroup(&rest)
                guard persist(group) else {
                    finish(rest)
                    return drain()
                }
                if rest.isEmpty { rest = queue.takeWaiting()[...] }
            }
            guard keepHouse() else { return drain() }
        }
    }

    private static func takeGroup(_ rest: inout ArraySlice<StorageWrite>) -> [StorageWrite] {
        var (count, bytes) = (0, 0)
        for write in rest {
            bytes += write.appendedBytes
            guard count == 0 || bytes <= maxGroupBytes else { break }
            count += 1
        }
        defer { rest.removeFirst(count) }
        return Array(rest.prefix(count))
    }

    private func persist(_ group: [StorageWrite]) -> Bool {
        let clock = ContinuousClock()
        let start = clock.now
        let result = Result { () throws(StorageError) in try store.write(group) }
        let size = finish(group)
        if case .failure(let error) = result {
            onFailure(error)
            return false
        }
        guard let last = group.last else { return true }
        onCommit(
            Commit(
                sequence: last.sequence,
                writes: size.writes,
                entries: group.reduce(0) { $0 + $1.append.count },
                bytes: size.bytes,
                duration: start.duration(to: clock.now)
            )
        )
        onPersisted(last.sequence)
        return succeeds { () throws(StorageError) in try store.extendFile() }
    }

    @discardableResult
    private func finish(_ writes: some Collection<StorageWrite>) -> Backlog {
        let size = Backlog(writes: writes.count, bytes: writes.reduce(0) { $0 + $1.appendedBytes })
        waiting.withLock {
            $0.writes -= size.writes
            $0.bytes -= size.bytes
        }
        return size
    }

    /// Housekeeping step by step, as long as nobody waits.
    private func keepHouse() -> Bool {
        while queue.isEmpty, store.needsMaintenance {
            guard succeeds({ () throws(StorageError) in _ = try store.maintain() }) else { return false }
        }
        return true
    }

    private func succeeds(_ step: () throws(StorageError) -> Void) -> Bool {
        do throws(StorageError) {
            try step()
            return true
        } catch {
            onFailure(error)
            return false
        }
    }

    /// After a failure: drop what comes until the end.
    private func drain() {
        while let writes = queue.takeAll() { finish(writes) }
    }
}

extension StorageWrite {
    fileprivate var appendedBytes: Int { append.reduce(0) { $0 + $1.size } }
}
