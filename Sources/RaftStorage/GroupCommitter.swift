internal import Glibc
package import Raft
internal import Synchronization

/// Makes the core's writes durable on an own thread: whatever waits when the disk is free goes into one transaction.
///
/// It never waits to fill a group: under load the groups grow by themselves while the disk works. After a failure
/// nothing more is written (R6).
///
/// A lack of room is no failure: the group waits, and is tried again until there is room. That is not the retry after a failed
/// flush that R6 forbids. LMDB has undone the transaction, whatever call failed in it; the next one copies every page that it
/// changes and writes all of them anew, flushes them, and only then names them in a meta page. Nothing counts on what the failed
/// one left in the page cache, and what was durable before lies in pages that neither touches. Where the meta page itself could
/// not be written, LMDB gives the environment up, and that is a failure (see `Environment.write`).
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
    private let onRoom: @Sendable (LackOfRoom?) -> Void

    /// What was reported last. On the thread only.
    private let lack = Mutex<LackOfRoom?>(nil)

    /// Starts the thread. The closures are called on it.
    ///
    /// - Parameters:
    ///   - onPersisted: all writes up to this one are durable.
    ///   - onFailure: called once, and no other closure after it. What was reported as persisted is, nothing else may
    ///     be taken to be.
    ///   - onCommit: called before `onPersisted` with what the commit took.
    ///   - onRoom: called when the log begins to lack room and when it no longer does (with nil), never twice alike. Proposals
    ///     should be refused meanwhile; what is submitted all the same is written as soon as it fits.
    package init(
        store: LogStore,
        onPersisted: @escaping @Sendable (WriteSequence) -> Void,
        onFailure: @escaping @Sendable (StorageError) -> Void,
        onCommit: @escaping @Sendable (Commit) -> Void = { _ in },
        onRoom: @escaping @Sendable (LackOfRoom?) -> Void = { _ in }
    ) {
        self.store = store
        self.onPersisted = onPersisted
        self.onFailure = onFailure
        self.onCommit = onCommit
        self.onRoom = onRoom
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

    /// Writes what waits, unless there is no room for it, and returns when the thread has ended. Must be called before the last reference goes; not
    /// from the closures.
    package func shutdown() {
        queue.close()
        thread.withLock { $0?.join() }
    }

    private func run() {
        while let writes = nextWrites() {
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

    /// What waits; sleeps until something does, but while room is lacking looks for it now and then. Nil at the end.
    private func nextWrites() -> [StorageWrite]? {
        var pause = RetryPause()
        while isShortOfRoom {
            let writes = queue.takeWaiting()
            if !writes.isEmpty { return writes }
            guard !queue.isClosed else { return nil }
            pause.sleep { !queue.isEmpty || queue.isClosed }
            guard extendFile() else { return nil }
        }
        return queue.takeAll()
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
        let result = Result { () throws(StorageError) in try writeWhenItFits(group) }
        let size = finish(group)
        switch result {
        case .success(true): break
        case .success(false): return false
        case .failure(let error):
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
        return extendFile()
    }

    /// Tries a group until there is room for it; false when the committer was shut down meanwhile.
    private func writeWhenItFits(_ group: [StorageWrite]) throws(StorageError) -> Bool {
        var pause = RetryPause()
        while true {
            do throws(StorageError) {
                try store.write(group)
                return true
            } catch  where error.isLackOfRoom {
                note(store.lackOfRoom(error))
                guard !queue.isClosed else { return false }
                pause.sleep { queue.isClosed }
            }
        }
    }

    /// Tops up what is written ahead; false after a failure.
    private func extendFile() -> Bool {
        succeeds { () throws(StorageError) in note(try store.extendFile()) }
    }

    private var isShortOfRoom: Bool { lack.withLock { $0 != nil } }

    private func note(_ now: LackOfRoom?) {
        let hasChanged = lack.withLock { last in
            defer { last = now }
            return (last == nil) != (now == nil)
        }
        if hasChanged { onRoom(now) }
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

    /// Housekeeping step by step, as long as nobody waits. It can do without until there is room.
    private func keepHouse() -> Bool {
        while queue.isEmpty, store.needsMaintenance, !isShortOfRoom {
            let isDone = succeeds { () throws(StorageError) in
                do throws(StorageError) {
                    _ = try store.maintain()
                } catch  where error.isLackOfRoom {
                    note(store.lackOfRoom(error))
                }
            }
            guard isDone else { return false }
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

/// The time between two tries to find room.
private struct RetryPause {
    private static let step: UInt32 = 20
    private static let longest: UInt32 = 1_000
    /// In milliseconds.
    private var length: UInt32 = 100

    /// Sleeps, longer each time, but no longer than until `isOver`.
    mutating func sleep(until isOver: () -> Bool) {
        var slept: UInt32 = 0
        while slept < length, !isOver() {
            usleep(Self.step * 1_000)
            slept += Self.step
        }
        length = min(2 * length, Self.longest)
    }
}

extension StorageWrite {
    fileprivate var appendedBytes: Int { append.reduce(0) { $0 + $1.size } }
}
